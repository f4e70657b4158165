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
from ._trace.views.drift import Drift, DriftName, DriftReport, drift
from ._trace.views.relation import MessageRelation
from ._trace.views.step import Step, steps
from ._trace.views.token_branch import Span, TokenBranch, branches

__all__ = [
    "Branch",
    "CallKind",
    "Conversation",
    "Drift",
    "DriftName",
    "DriftReport",
    "JSONLRecorder",
    "MessageRelation",
    "OpenedRecorder",
    "OutcomeKind",
    "Recorder",
    "RecorderGroup",
    "ServiceCall",
    "ServiceKind",
    "ServiceRecorder",
    "Span",
    "Step",
    "TokenBranch",
    "Tokens",
    "Trace",
    "Turn",
    "TurnError",
    "branches",
    "drift",
    "read_traces",
    "steps",
]
