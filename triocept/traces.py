"""Traces (the records of rollouts), the events of rollouts, and the recorders that write traces."""

from typing import TYPE_CHECKING

from ._moved import hints_of
from ._rollout.event_sender import OnEvent
from ._rollout.recorder_group import RecorderGroup
from ._trace.check import Report, check
from ._trace.conversation import Conversation
from ._trace.diff import Edit, MessageDiff, ToolsDiff, TurnDiff
from ._trace.directory import DirectoryRecorder
from ._trace.entries import AgentStart, Entry, Gap, Intent, Opening, Score
from ._trace.increments import Increments
from ._trace.jsonl import JSONLRecorder
from ._trace.raw import RawResponse
from ._trace.reader import read_traces
from ._trace.recorder import EntryRecorder, OpenedRecorder, Recorder, ServiceRecorder
from ._trace.redaction import Redaction
from ._trace.relations import Relation, RelationKind, TurnBranch
from ._trace.rollout_events import (
    AgentEnded,
    AgentStarted,
    CallArrived,
    DecisionAsked,
    DecisionMade,
    IncrementKind,
    IncrementSent,
    RolloutEnded,
    RolloutEvent,
    RolloutOpened,
    Scored,
    ServiceCalled,
    TurnLost,
    TurnSettled,
)
from ._trace.tokens import Tokens
from ._trace.trace import Trace
from ._trace.turn import Branch, Decided, DecisionKind, Draft, ServiceCall, Turn, TurnError
from ._trace.views.drift import Drift, DriftName, DriftReport, MessageChange, drift
from ._trace.views.step import Step, steps
from ._trace.views.token_branch import Span, TokenBranch, branches
from ._trace.wire import WireView
from ._tracefiles.follow import TraceStream, iter_traces
from ._tracefiles.lease import TraceLease, lease_traces

if not TYPE_CHECKING:
    __getattr__ = hints_of(__name__)

__all__ = [
    "AgentEnded",
    "AgentStarted",
    "CallArrived",
    "DecisionAsked",
    "DecisionMade",
    "IncrementKind",
    "IncrementSent",
    "RolloutEnded",
    "RolloutEvent",
    "RolloutOpened",
    "Scored",
    "ServiceCalled",
    "TurnLost",
    "TurnSettled",
    "OnEvent",
    "AgentStart",
    "Branch",
    "Conversation",
    "Decided",
    "DecisionKind",
    "DirectoryRecorder",
    "Draft",
    "Drift",
    "DriftName",
    "DriftReport",
    "Edit",
    "Entry",
    "EntryRecorder",
    "Gap",
    "Intent",
    "Increments",
    "JSONLRecorder",
    "MessageDiff",
    "MessageChange",
    "OpenedRecorder",
    "Opening",
    "RawResponse",
    "Recorder",
    "RecorderGroup",
    "Relation",
    "RelationKind",
    "Redaction",
    "Report",
    "Score",
    "ServiceCall",
    "ServiceRecorder",
    "Span",
    "Step",
    "TokenBranch",
    "Tokens",
    "ToolsDiff",
    "Trace",
    "TraceStream",
    "TraceLease",
    "Turn",
    "TurnBranch",
    "TurnDiff",
    "TurnError",
    "WireView",
    "branches",
    "drift",
    "check",
    "iter_traces",
    "read_traces",
    "steps",
    "lease_traces",
]
