"""What is kept of a rollout, and what keeps it."""

from ._tail import TraceStream, iter_traces
from ._trace.branch import Branch
from ._trace.check import Report, check
from ._trace.conversation import CallKind, Conversation
from ._trace.entries import AgentStart, Ending, Entry, Gap, Intent, Opening, Score
from ._trace.jsonl import JSONLRecorder
from ._trace.reader import read_traces
from ._trace.recorder import EntryRecorder, OpenedRecorder, Recorder, RecorderGroup, ServiceRecorder
from ._trace.service import ServiceCall, ServiceKind
from ._trace.tokens import Tokens
from ._trace.trace import Trace
from ._trace.turn import OutcomeKind, Turn, TurnError
from ._trace.views.drift import Drift, DriftName, DriftReport, drift
from ._trace.views.relation import MessageRelation
from ._trace.views.step import Step, steps
from ._trace.views.token_branch import Span, TokenBranch, branches

__all__ = [
    "AgentStart",
    "Branch",
    "CallKind",
    "Conversation",
    "Drift",
    "DriftName",
    "DriftReport",
    "Ending",
    "Entry",
    "EntryRecorder",
    "Gap",
    "Intent",
    "JSONLRecorder",
    "MessageRelation",
    "OpenedRecorder",
    "Opening",
    "OutcomeKind",
    "Recorder",
    "RecorderGroup",
    "Report",
    "Score",
    "ServiceCall",
    "ServiceKind",
    "ServiceRecorder",
    "Span",
    "Step",
    "TokenBranch",
    "Tokens",
    "Trace",
    "TraceStream",
    "Turn",
    "TurnError",
    "branches",
    "drift",
    "check",
    "iter_traces",
    "read_traces",
    "steps",
]
