"""Convert one run to the JSON that the page shows (see `protocol`): rows of its turns, and its messages by number.

Rules:

1. Within a run, each distinct message has one number. Messages are compared in the same way as in a trace's graph
   (`message_key`), but their reasoning is compared, too.
2. The time to add a turn depends only on its new messages. Messages of earlier turns are compared only by identity.
3. This module only reads the trace. The rollout may add turns to the trace at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import takewhile
from typing import TypeAlias, final

import msgspec

from .._canonical.content import Json, Message, Reasoning, Text
from .._canonical.form import message_key
from .._canonical.request import Request, Tool
from .._canonical.response import Usage
from .._trace.conversation import Conversation, is_side_call, names_of
from .._trace.cost import cost_of, usage_of, usage_of_all
from .._trace.diff import diff_of
from .._trace.entries import Intent
from .._trace.graph import Recent
from .._trace.relations import Relation
from .._trace.rollout_events import CallArrived
from .._trace.texts import agent_name, task_name, text_of
from .._trace.trace import Trace, TraceWriter
from .._trace.turn import Decided, ServiceCall, Turn
from .._trace.waits import waited
from ..dialects import dialect
from ..dialects.kit import encode_json
from ..errors import DialectError

Row: TypeAlias = dict[str, Json]
Ranges: TypeAlias = list[list[int]]

BRIEF = 200
"""Maximum characters of a text that a row contains."""
_RANDOM = re.compile("r_[0-9a-f]{16}")
"""Pattern of rollout ids that triocept generated, because the program passed no id."""
_ADDED = re.compile(
    "# AGENTS|<(system|INSTRUCTIONS|env|info-msg|turn_aborted|user_(info|instructions)|permissions instructions"
    "|(system|local-command|command|environment|session|collaboration|skills|apps|plugins)[_-][a-z]+)>"
)
"""Pattern of the beginnings of texts that agents add to a prompt: reminders, instructions of the project, facts about
the machine."""
_COMPARED = ("continues", "compaction", "rewrite", "retry", "repeat")
"""Kinds of relations for which the page compares a turn with the earlier turn that the relation names."""
_NO_EDIT: Row = {"removed": "", "added": ""}
_USAGE = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "estimated",
)
_DRAFT = ("why", "counted", "response", "error", "duration")
_ERROR = ("type", "message", "status")
_WIRE = ("method", "url", "headers", "status", "answer_headers")


@final
class Messages:
    """The distinct messages of a run, by number."""

    def __init__(self) -> None:
        self.all: list[Message] = []
        self.first: list[str] = []
        """Id of the first call whose request or answer contains the message, for each message in order."""
        self.size: int = 0
        """Approximate number of characters of all messages."""
        self._by_key: dict[bytes, int] = {}
        self._by_id: dict[int, tuple[Message, int]] = {}
        """Each message object and its number, by Python's `id` of the object. The object itself is kept because only
        then its `id` stays unique."""
        self._recent: Recent[int] = Recent()

    def numbers(self, messages: tuple[Message, ...], call: str) -> list[int]:
        """Return the numbers of `messages`, the messages of the call `call`.

        The caller must not change the returned list.
        """
        known = self._recent.go_on(messages).known
        for message in messages[len(known) :]:
            known.append(self.number(message, call))
        return known

    def number(self, message: Message, call: str) -> int:
        """Return the number of `message`. If the message is new, it gets the next number."""
        found = self._by_id.get(id(message))
        if found is not None and found[0] is message:
            return found[1]
        thought = "\0".join(part.text for part in message.content if isinstance(part, Reasoning))
        key = message_key(message)
        if thought:
            key = blake2b(key + thought.encode(errors="replace"), digest_size=16).digest()
        number = self._by_key.setdefault(key, len(self.all))
        if number == len(self.all):
            self.all.append(message)
            self.first.append(call)
            self.size += sum(map(len, _weighed(message)))
        self._by_id[id(message)] = message, number
        return number


def _weighed(message: Message) -> Iterator[str]:
    yield text_of(message)
    for part in message.content:
        yield getattr(part, "data", None) or ""


@final
class Run:
    """One run: a live rollout, or a trace that was read from a file."""

    def __init__(self, trace: Trace, parent: str | None = None, file: str = "", number: int = 1) -> None:
        self.trace = trace
        self.file = file
        self.number = number
        self._writer = TraceWriter(trace)
        self.id: str = trace.run or trace.rollout
        self.parent = parent
        self.messages: Messages = Messages()
        self.tools: list[tuple[Tool, ...]] = []
        """The distinct lists of tools of the run's calls. The index of a list is its number in the page's JSON."""
        self.calls: dict[str, Row] = {}
        """Calls in flight, by their ids, in the order of their arrival."""
        self.waiting = 0
        """Number of tool calls that wait for a decision."""
        self.is_live = False
        """True while the rollout is open, and so may send further events."""
        self._added = 0
        """Number of the trace's turns that are already counted in the run's row."""
        self._numbers: dict[str, list[list[int]]] = {}
        """Ranges of the messages of each turn, by the turn's id."""
        self._answers: dict[str, int | None] = {}
        self._tools_by_value: dict[bytes, int] = {}
        self._tools_by_id: dict[int, tuple[tuple[Tool, ...], int]] = {}
        self._usage = Usage(input_tokens=0, output_tokens=0)
        self._failed = 0
        self._last_failed = self._has_prompt = False
        self._busy = self._waited = 0.0
        self._cost: float | None = 0.0
        self._text = self._model = self._error = self._agent = self._prompt = ""
        self._ended_at: float | None = None

    def row(self) -> Row:
        """Return the Row (see `protocol`) of the run."""
        self.update()
        trace = self.trace
        usage, latest = self._usage, next(reversed(self.calls.values()), None)
        self._agent = self._agent or (trace.agents[0].name if trace.agents else "")
        own = "" if _RANDOM.fullmatch(trace.rollout) else trace.rollout
        return {
            "run": self.id,
            "rollout": trace.rollout,
            "title": (task_name(trace.metadata) or own or self._prompt)[:BRIEF],
            "number": self.number,
            "file": self.file,
            "parent": self.parent,
            "opened_at": trace.started_at or self._began_at(),
            "ended_at": self.ended_at(),
            "state": self._state(),
            "stopped": trace.stopped,
            "ended": trace.ended,
            "agent": self._agent,
            "model": latest["model"] if latest else self._model,
            "turns": len(trace),
            "failed": self._failed,
            "in_flight": len(self.calls),
            "waiting": self.waiting,
            **members(usage, _USAGE),
            "cost": self._cost if self._writer.prices else None,
            "busy": self._busy,
            "waited": self._waited,
            "text": self._text,
            "error": self._error,
            "scores": dict(trace.scores),
            "metadata": dict(trace.metadata),
            "kept": True,
        }

    def _began_at(self) -> float | None:
        return min((turn.started_at for turn in self.trace), default=None)

    def ended_at(self) -> float | None:
        """Return the time at which the run ended, in seconds since the epoch; None if the run has not ended."""
        if self.is_live:
            return None
        if self._ended_at is None:
            last = max((turn.started_at + turn.duration for turn in self.trace), default=None)
            self._ended_at = self._writer.was_sealed_at or last
        return self._ended_at

    def _state(self) -> str:
        trace = self.trace
        if self.waiting:
            return "waiting"
        if self.is_live:
            return "running" if self.calls else "idle"
        if trace.ended == "raised" or self._last_failed:
            return "failed"
        if trace.stopped is not None:
            return "stopped"
        if trace.digest is not None and not trace.sealed:
            return "ended, with gaps"
        return "ended" if trace.sealed or trace.ended is not None else "cut"

    def update(self) -> None:
        """Count, in the row of the run, the turns that were added to the trace since the last call of this method."""
        trace = self.trace
        while self._added < len(trace):
            turn = trace[self._added]
            self._added += 1
            self.calls.pop(turn.id, None)
            self.ranges(turn)
            usage = usage_of(turn)
            if usage is not None:
                self._usage = usage_of_all([self._usage, usage])
            if self._writer.prices and self._cost is not None:
                cost = cost_of((turn,), self._writer.prices)
                self._cost = None if cost is None else self._cost + cost
            self._last_failed = turn.outcome == "failed"
            self._failed += turn.outcome != "answered"
            self._busy += turn.duration - waited(turn)
            self._waited += waited(turn)
            self._model, error = turn.request.model, turn.error
            self._name(turn.request, turn.agent)
            self._error = f"{error.type}: {error.message}"[:BRIEF] if error is not None else ""
            if turn.response is not None and turn.response.text:
                self._text = turn.response.text[-BRIEF:]

    def _name(self, request: Request, agent: str | None) -> None:
        """Name the run after a call: by the agent's name, and by the first words of the call's prompt.

        A known name is not replaced, with one exception: a prompt of a side call is replaced when another call arrives.
        """
        started = self.trace.agents[0].name if self.trace.agents else ""
        self._agent = self._agent or started or agent_name(agent)[:BRIEF]
        is_side = is_side_call(request)
        if not self._has_prompt and (prompt := _prompt_of(request)) and not (is_side and self._prompt):
            self._prompt, self._has_prompt = prompt, not is_side

    def ranges(self, turn: Turn) -> Ranges:
        """Return the numbers of a turn's messages, as half-open ranges."""
        found = self._numbers.get(turn.id)
        if found is None:
            numbers = self.messages.numbers(turn.request.messages, turn.id)
            found = self._numbers[turn.id] = ranges_of(numbers)
            response = turn.response
            answer = Message("assistant", tuple(response.content)) if response and response.content else None
            self._answers[turn.id] = None if answer is None else self.messages.number(answer, turn.id)
        return found

    def tools_of(self, request: Request) -> int | None:
        """Return the number of the list of tools that `request` offers; None if the request offers no tools."""
        tools = request.tools
        if not tools:
            return None
        known = self._tools_by_id.get(id(tools))
        if known is not None and known[0] is tools:
            return known[1]
        key = blake2b(msgspec.json.encode(tools), digest_size=16).digest()
        number = self._tools_by_value.setdefault(key, len(self.tools))
        if number == len(self.tools):
            self.tools.append(tools)
        self._tools_by_id[id(tools)] = tools, number
        return number

    def call(self, event: CallArrived) -> Row:
        """Add a call in flight to the run, and return its `Call` (see `protocol`)."""
        id_, request = event.exchange, event.request
        turn = Turn(
            id=id_,
            number=len(self.trace),
            rollout=self.trace.rollout,
            dialect=event.dialect,
            request=request,
            outcome="abandoned",
            conversation=event.conversation,
            started_at=event.at,
            duration=0,
        )
        numbers = self.messages.numbers(request.messages, id_)
        found, parent = self._writer.conversation_of(turn), self._writer.parent_of(turn)
        last = request.messages[-1] if request.messages else None
        self._name(request, event.agent)
        self.calls[id_] = {
            "run": self.id,
            "id": id_,
            "at": event.at,
            "model": request.model,
            "dialect": event.dialect,
            "agent": agent_name(event.agent)[:BRIEF],
            "messages": ranges_of(numbers),
            "tools": self.tools_of(request),
            "shared": self._shared_with(parent, request.messages) if parent else 0,
            "continues": parent,
            "conversation": _conversation(found, ""),
            "text": text_of(last)[-BRIEF:] if last is not None else "",
            "first": None,
            "parts": [],
            "sent": 0,
            "decisions": [],
        }
        return self.calls[id_]

    def turn_row(self, turn: Turn) -> Row:
        return next(self._rows([turn]))

    def turn_rows(self) -> list[Row]:
        self.update()
        return list(self._rows(self.trace))

    def _rows(self, turns: Iterable[Turn]) -> Iterator[Row]:
        trace = self.trace
        relations, conversations = trace.relations, trace.conversations
        names = names_of(conversations.values())
        for turn in turns:
            mine = conversations[turn.id]
            yield self._row_of(turn, relations[turn.id], mine, names.get((mine.id, mine.kind), ""))

    def _row_of(self, turn: Turn, relation: Relation, conversation: Conversation, name: str) -> Row:
        response, error = turn.response, turn.error
        messages = self.ranges(turn)
        base = self.turn(relation.turn) if relation.turn and relation.kind in _COMPARED else None
        shared, gone, tools_changed, system_changed = 0, Ranges(), False, False
        if base is not None:
            if relation.kind == "continues":
                shared = self._shared_with(base.id, turn.request.messages)
            else:
                old, new = listed(self.ranges(base)), listed(messages)
                shared = sum(
                    1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
                )
                kept = {*new}
                gone = ranges_of([number for number in old[shared:] if number not in kept])
            tools_changed = self.tools_of(base.request) != self.tools_of(turn.request)
            system_changed = self._system_numbers(base) != self._system_numbers(turn)
        usage = usage_of(turn)
        return {
            "run": self.id,
            "id": turn.id,
            "number": turn.number,
            "at": turn.started_at,
            "first": turn.first_event,
            "duration": turn.duration,
            "waited": waited(turn),
            "outcome": turn.outcome,
            "dialect": turn.dialect,
            "model": turn.request.model,
            "agent": agent_name(turn.agent)[:BRIEF],
            "attempt": turn.attempt,
            "conversation": _conversation(conversation, name),
            "relation": {"kind": relation.kind, "turn": relation.turn, "call": relation.call},
            "continues": base.id if base is not None else None,
            "messages": messages,
            "shared": shared,
            "gone": gone,
            "tools": self.tools_of(turn.request),
            "tools_changed": tools_changed,
            "system_changed": system_changed,
            "answer": self._answers[turn.id],
            "text": response.text[:BRIEF] if response is not None else "",
            "calls": [call.name for call in response.tool_calls] if response is not None else [],
            "stop": response.stopped if response is not None and turn.outcome == "answered" else "",
            "usage": members(usage, _USAGE) if usage is not None else None,
            "cost": cost_of((turn,), self._writer.prices) if self._writer.prices else None,
            "error": members(error, _ERROR) if error is not None else None,
            "decisions": [decided_json(each) for each in turn.decisions],
            "drafts": len(turn.drafts),
        }

    def _system_numbers(self, turn: Turn) -> list[int]:
        heads = takewhile(lambda each: each.role in ("system", "developer"), turn.request.messages)
        return listed(self.ranges(turn))[: sum(1 for _ in heads)]

    def _shared_with(self, parent: str, messages: Sequence[Message]) -> int:
        """Return how many of `messages`, from the first on, are also in the request or answer of the turn `parent`."""
        base = self.turn(parent)
        shared = min(len(base.request.messages), len(messages)) if base is not None else 0
        while shared < len(messages) and messages[shared].role == "assistant":
            shared += 1
        return shared

    def turn(self, id_: str | None) -> Turn | None:
        self.update()
        return self._writer.turn(id_) if id_ is not None else None

    def detail(self, id_: str) -> Row | None:
        """Return the details of the turn, or of the call in flight, with the id `id_`; None if it does not exist."""
        turn = self.turn(id_)
        if turn is not None:
            return {"turn": self.turn_row(turn), **details_of(turn)}
        intent = next((each for each in self.trace.pending if each.id == id_), None)
        if (call := self.calls.get(id_)) is None or intent is None:
            return None
        empty: Row = {"response": None, "drafts": [], "notes": {}, "has_wire": False}
        return {"call": call, "request": _bare(intent.request)} | empty

    def raw(self, id_: str) -> Row | None:
        """Return the turn, or the call without a turn, with all recorded fields; None if there is no such call."""
        found: Turn | Intent | None = self.turn(id_)
        found = found or next((each for each in self.trace.pending if each.id == id_), None)
        if found is None:
            return None
        wire = found.wire if isinstance(found, Turn) else None
        whole = msgspec.to_builtins(found)
        if wire is not None:
            del whole["wire"]
        sent: Row | None = None
        if wire is not None:
            sent = members(wire, _WIRE) | {
                "body": wire.body.decode(errors="replace"),
                "answer": wire.answer.decode(errors="replace"),
            }
        return {"turn": whole, "wire": sent, "curl": _curl(found)}

    def diff(self, before: str, after: str) -> Row | None:
        one, other = self.turn(before), self.turn(after)
        if one is None or other is None:
            return None
        found = diff_of(one, other)
        return {
            "messages": [
                {
                    "kind": each.kind,
                    "before": each.before,
                    "after": each.after,
                    "old": None if each.old is None else self.messages.number(each.old, one.id),
                    "new": None if each.new is None else self.messages.number(each.new, other.id),
                    "edit": None if each.edit is None else _NO_EDIT | msgspec.to_builtins(each.edit),
                }
                for each in found.changes
            ],
            "same": len(found.messages) - len(found.changes),
            "tools": {"added": [], "dropped": [], "edited": [], "reordered": False, "count": 0}
            | msgspec.to_builtins(found.tools),
            "settings": msgspec.to_builtins(found.settings),
        }

    def services(self) -> list[Row]:
        return [
            service_row(self.id, call) | {"arguments": call.arguments, "result": call.result}
            for call in self.trace.services
        ]

    def agents(self) -> list[Row]:
        return [{"argv": [*each.argv], "cwd": each.cwd, "at": each.started_at} for each in self.trace.agents]

    def document(self) -> Row:
        """Return the whole run as JSON, with all turns and messages, for a page without a server."""
        rows = self.turn_rows()
        return {
            "turns": rows,
            "services": self.services(),
            "agents": self.agents(),
            "messages": self.messages.all,
            "tools": self.tools,
            "details": {turn.id: details_of(turn) for turn in self.trace},
        }


def details_of(turn: Turn) -> Row:
    """Return the fields of a turn that its row does not contain, except the messages."""
    response = turn.response
    return {
        "request": _bare(turn.request),
        "response": msgspec.to_builtins(msgspec.structs.replace(response, content=())) if response else None,
        "drafts": [msgspec.to_builtins(members(each, _DRAFT)) for each in turn.drafts],
        "notes": turn.notes,
        "has_wire": turn.wire is not None,
    }


def service_row(run: str, call: ServiceCall) -> Row:
    error = members(call.error, _ERROR) if call.error is not None else None
    names = ("id", "number", "kind", "name", "outcome", "duration", "turns")
    return {"run": run, "at": call.started_at, "error": error} | members(call, names)


def decided_json(decided: Decided) -> Row:
    return members(decided, decided.__struct_fields__)


def members(value: object, names: Iterable[str]) -> Row:
    return {name: getattr(value, name) for name in names}


def _prompt_of(request: Request) -> str:
    """Return the beginning of the user's prompt in a request; empty if there is no prompt."""
    parts = (part for message in request.messages if message.role == "user" for part in message.content)
    texts = (" ".join(part.text[: 2 * BRIEF].split()) for part in parts if isinstance(part, Text))
    return next((text[:BRIEF] for text in texts if text and not _ADDED.match(text)), "")


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """Convert numbers into half-open ranges. The order of the numbers stays the same."""
    found: Ranges = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1][1] = number + 1
        else:
            found.append([number, number + 1])
    return found


def listed(ranges: Ranges) -> list[int]:
    return [number for start, stop in ranges for number in range(start, stop)]


def _bare(request: Request) -> Json:
    document = msgspec.to_builtins(msgspec.structs.replace(request, messages=(), tools=()))
    document.pop("messages", None)
    return document


def _curl(call: Turn | Intent) -> Row | None:
    try:
        spoken = dialect(call.dialect)
        body = encode_json(spoken.render_request(call.request)).decode()
        return {"method": "POST", "path": spoken.base_path + spoken.path(call.request), "body": body}
    except (DialectError, ValueError):  # the dialect is not installed, or cannot write the request
        return None


def _conversation(found: Conversation, name: str) -> Row:
    return {"id": found.id, "kind": found.kind, "parent": found.parent, "name": name}
