"""What is kept of a rollout, and what keeps it."""

from ._trace.branch import Branch
from ._trace.conversation import CallKind, Conversation
from ._trace.jsonl import JSONLRecorder
from ._trace.reader import read_traces
from ._trace.recorder import OpenedRecorder, Recorder, RecorderGroup, ServiceRecorder
from ._trace.service import ServiceCall, ServiceKind
from ._trace.tokens import Tokens
from ._trace.trace import Trace
from ._trace.turn import OutcomeKind, Turn, TurnError

__all__ = [
    "Branch",
    "CallKind",
    "Conversation",
    "JSONLRecorder",
    "OpenedRecorder",
    "OutcomeKind",
    "Recorder",
    "RecorderGroup",
    "ServiceCall",
    "ServiceKind",
    "ServiceRecorder",
    "Tokens",
    "Trace",
    "Turn",
    "TurnError",
    "read_traces",
]
