"""Convert a recorded trace to a form in which two runs can be compared, and find the recorded turn for a live call.

In two cases, there is no answer for a call. `replay/handler.py` then raises a `ReplayMiss` with a text from
`_recording/miss.py`:

* No turn has an equal `Key`. A `Key` consists of the moves (texts, tool calls and other parts of messages, in order)
  and the names of the offered tools; the model, sampling settings and schemas of tools do not count. With
  `match="nearest"` (rule 8), this case occurs only if all turns of the call's kind have already answered its
  conversation.
* The turn with an equal `Key` has no answer (rule 5), and the live agent stays connected.

Calls of two runs of an agent have equal moves if only the environment, or the dialect, differs. Parts are compared by
the rule `REPLAY` of `_canonical.form`. By this rule, `developer` equals `system`; arguments are JSON values; media are
compared by their hash; reasoning, empty texts, ids and cache marks do not count. Each of the following further rules
was needed for a real agent:

1. The results of tools have the role `tool`, wherever the dialect packs them. Adjacent messages of one role count as
   one message.
2. The run's directories are masked everywhere. Other parts that differ from run to run (`volatile`: dates, times, ids,
   listings of the directory) are masked in system prompts, in texts of the user, in opaque parts, and in results that
   are compared. Apart from directories and white space at the ends, the model's texts are compared exactly.
3. Results of tools count only with `Replay(compare_results=True)`, because they contain dates, process numbers and
   durations.
4. Turns are sorted by the order in which they settled; a turn's number is its position in this order. If the system's
   clock was set during the run, the times of the turns are corrected to fit this order.
5. A turn from which the recorded agent disconnected has no answer. It is kept for the order of events, and is chosen
   only if no other turn has an equal request.
6. Several turns with equal requests are used in order: first the turns that have not answered any live conversation,
   then the turns that have not answered this conversation, and from then on the last turn. So a call that was refused
   and retried is refused and retried again. If the record contains several sub-agents with the same task as one
   conversation, the live sub-agents get all answers of this conversation.
7. A live conversation gets its answers from the recorded conversation in which its first call was found, as long as
   this recorded conversation contains the live calls. For a new live conversation, a recorded conversation that no
   other live conversation uses is preferred, because two sub-agents may have the same task.
8. The nearest turn is the turn whose moves have the longest beginning in common with those of the call. It is in a
   conversation of the same kind, and has not answered the live conversation yet. Of several such turns, the turn that
   settled first is used. A repeated call is answered as in rule 6. In rule 8, system prompts do not count, because a
   new version of an agent has another system prompt.
9. In a recorded answer, the live directories replace the recorded directories. Tool calls keep their recorded ids. If
   the record has raw bytes, they are sent again unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import msgspec
import trio

from ..._canonical.content import Json, Message, Reasoning, RefusalText, Text, ToolCall, ToolResult
from ..._canonical.form import REPLAY, arguments_value, join_texts, placed_forms
from ..._canonical.memory import common_head
from ..._canonical.request import Request
from ..._canonical.response import ResponsePart
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.outcome import Raw
from ..._trace.conversation import CallKind, Conversation, names_of
from ..._trace.trace import Trace
from ..._trace.turn import Turn, TurnError
from ..play import Answer, Failure, FailureKind, give
from ..volatile import in_json, mask_of, without_volatile

_encode = msgspec.json.Encoder(order="deterministic").encode


class Move(NamedTuple):
    """A part of a message in the form in which it is compared: a text, a tool call, a result or another part."""

    role: str
    kind: str
    """Kind of the part: text, call, result, refusal, media or opaque."""
    value: str
    """The text of the part if its kind is text, result or refusal; for any other kind, the part as JSON."""

    @property
    def shown(self) -> Json:
        """The value, decoded from JSON if it is JSON.

        The masking of directories may have made the JSON invalid. In that case, the value as a text.
        """
        try:
            return (
                self.value if self.kind in ("text", "result", "refusal") else msgspec.json.decode(self.value)
            )
        except msgspec.DecodeError:
            return self.value


Moves: TypeAlias = tuple[Move, ...]


class Key(NamedTuple):
    """The compared content of a request.

    If a live request and a recorded request have equal keys, the live call gets the recorded answer.
    """

    moves: Moves
    tools: tuple[str, ...]
    """The names of the offered tools, sorted."""


class Normal:
    """Converts requests to moves. Each message object is converted only once.

    Args:
        mask: function that removes the run's directories from a text.
        results: if True, results of tools are compared, too (`compare_results`).
    """

    def __init__(self, mask: Callable[[str], str], *, results: bool = False) -> None:
        self._mask = mask
        self._words = cache(lambda text: mask(text).strip())
        self._results = results
        self._known: dict[int, tuple[Message, tuple[tuple[str, list[Json]], ...]]] = {}
        """Roles and forms of the parts of each message, by Python's `id` of the message. The dict keeps the message
        object alive, so that the object's `id` stays unique."""

    def moves(self, request: Request) -> Moves:
        """Return the moves of a request: the parts of its messages, in order, in the form that is compared."""
        placed = (each for message in request.messages for each in self._of(message))
        found: list[Move] = []
        for role, group in groupby(self._masked_answers(placed), key=itemgetter(0)):
            for kind, *value in join_texts((form for _, form in group), "\n"):
                match kind:
                    case "refusal":
                        text = self._mask(value[0])
                    case "text" | "result":
                        text = value[0]
                    case "opaque":
                        text = without_volatile(_encode(in_json(value[1], self._mask)).decode())
                    case _:
                        text = _encode(in_json(value, self._mask)).decode()
                found.append(Move(role, kind, text))
        return tuple(found)

    def result(self, result: ToolResult) -> str:
        return ("failed: " if result.is_error else "") + without_volatile(self._mask(result.text))

    def _of(self, message: Message) -> tuple[tuple[str, list[Json]], ...]:
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            forms: list[tuple[str, list[Json]]] = []
            for role, part, form in placed_forms(message, REPLAY):
                if isinstance(part, ToolResult):
                    form = ["result", self.result(part) if self._results else ""]
                elif form[0] == "text" and role != "assistant":
                    form = ["text", without_volatile(self._mask(form[1])).strip()]
                if form != ["text", ""]:
                    forms.append((role, form))
            known = self._known[id(message)] = (message, tuple(forms))
        return known[1]

    def _masked_answers(self, placed: Iterable[tuple[str, list[Json]]]) -> Iterator[tuple[str, list[Json]]]:
        """Join adjacent texts of the model. Then mask the directories in the joined texts.

        The texts are joined first because the name of a directory may be split over two texts.
        """
        for role, group in groupby(placed, key=itemgetter(0)):
            if role != "assistant":
                yield from group
                continue
            for form in join_texts(form for _, form in group):
                if form[0] != "text":
                    yield role, form
                elif words := self._words(form[1]):
                    yield role, ["text", words]


def key_of(request: Request, normal: Normal) -> Key:
    return Key(normal.moves(request), tuple(sorted({tool.name for tool in request.tools})))


def shown_form(key: Key) -> Json:
    messages = [
        {move.role if move.kind == "text" else f"{move.role} {move.kind}": move.shown} for move in key.moves
    ]
    return {"tools": list(key.tools), "messages": messages}


_TOGETHER = 1.0
"""Maximum seconds between the ends of two turns for which the recorded order of these ends may be wrong."""

Thread: TypeAlias = tuple[str, bool]
"""Key of a conversation: its id, and True if it is a side call. The id alone does not suffice, because a side call may
have the id of the main conversation."""


class Recorded(NamedTuple):
    """A turn of the recorded trace, with the data by which calls are compared."""

    number: int
    turn: Turn
    key: Key
    conversation: Conversation
    arrived: float
    """Time at which the call arrived, in seconds since the epoch."""

    @property
    def kind(self) -> CallKind:
        return self.conversation.kind

    @property
    def thread(self) -> Thread:
        return thread_of(self.conversation)

    @property
    def settled(self) -> float:
        return self.arrived + self.turn.duration


class Record:
    """An index of a trace's turns by the compared content of their requests.

    Args:
        trace: the trace.
        roots: the directories of the trace's agents.
        results: if True, results of tools are compared, too (`compare_results`).
    """

    def __init__(self, trace: Trace, roots: Iterable[dict[str, str]] = (), *, results: bool = False) -> None:
        self.trace = trace
        normal = Normal(mask_of(roots), results=results)
        self.normal: Normal = normal
        conversations = trace.conversations
        self.turns: tuple[Recorded, ...] = tuple(
            Recorded(number, turn, key_of(turn.request, normal), conversations[turn.id], arrived)
            for number, (turn, arrived) in enumerate(zip(trace, _arrivals(trace, conversations), strict=True))
        )
        self.threads: dict[Thread, list[Recorded]] = {}
        """The turns of each conversation, in order of arrival."""
        self._by_key: dict[Key, list[Recorded]] = {}
        for each in sorted(self.turns, key=lambda each: each.arrived):
            self.threads.setdefault(each.thread, []).append(each)
            self._by_key.setdefault(each.key, []).append(each)

    def asking(self, key: Key) -> list[Recorded]:
        """Return the recorded turns whose requests have the key `key`, in order of arrival."""
        return self._by_key.get(key, [])


def _arrivals(turns: Iterable[Turn], conversations: Mapping[str, Conversation]) -> Iterator[float]:
    """Yield the times at which the calls of `turns` arrived, corrected for changes of the system's clock.

    For each turn, one of the corrections that were found so far is used: the smallest correction with which the turn
    settles after the previous turn. If none of them suffices, the clock was set again during the call. If the call then
    seems to come before all other calls, the clock was set back: the call is placed after all answers. Otherwise the
    clock was set forward: the call is placed after the last answer of its conversation. The real time between calls is
    unknown.
    """
    first, latest, changes = float("inf"), float("-inf"), [0.0]
    ended: dict[Thread, float] = {}
    """For each conversation: the corrected time, in seconds, at which its latest turn settled."""
    for turn in turns:
        thread, settled = thread_of(conversations[turn.id]), turn.started_at + turn.duration
        fitting = [change for change in changes if settled + change > latest - _TOGETHER]
        if not fitting and turn.started_at < first:
            changes += (fitting := [latest - turn.started_at])
        elif not fitting:
            changes += (fitting := [max(latest - settled, ended.get(thread, latest) - turn.started_at)])
        change = min(fitting)
        latest = max(latest, settled + change)
        ended[thread] = settled + change
        first = min(first, turn.started_at + change)
        yield turn.started_at + change


def thread_of(conversation: Conversation) -> Thread:
    return conversation.id, conversation.kind == "side"


class Matching:
    """Chooses the recorded turns that answer the calls of one live rollout.

    Each choice depends on earlier choices.

    Args:
        record: the record.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._kept_to: dict[Thread, Thread] = {}
        """For each live conversation: the recorded conversation from which it gets its answers (rule 7)."""
        self._had: dict[Thread, dict[int, Key]] = {}
        """For each live conversation: the recorded turns that answered its calls, in order. They are stored as a dict
        from the number of each turn to the key of the live call."""

    def exact(self, key: Key, conversation: Conversation) -> Recorded | None:
        """Return the recorded turn that answers a call with the key `key`; None if no recorded call has this key."""
        live = thread_of(conversation)
        found = self._record.asking(key)
        if not found:
            return None
        own = [each for each in found if each.thread == self._kept_to.get(live)]
        taken = set(self._kept_to.values())
        free = [each for each in found if each.thread not in taken]
        same_kind = [each for each in free if each.kind == conversation.kind]
        rest = [each for each in found if not self._is_given(each)]
        return self._take(live, key, self._next(live, own or same_kind or free or rest or found))

    def nearest(self, key: Key, conversation: Conversation) -> Recorded | None:
        """Return the recorded turn whose request has the longest beginning in common with `key`.

        Only turns of the conversation's kind are compared. Return None if all of them have already answered this
        conversation.
        """
        live = thread_of(conversation)
        had = self._had.get(live, {})
        for number, before in reversed(had.items()):
            if before == key:  # the next turn if the record repeats the call
                latest = self._record.turns[number]
                asked = [each for each in self._record.asking(latest.key) if each.thread == latest.thread]
                return self._take(live, key, self._next(live, asked))
        found = [
            each for each in self._record.turns if each.kind == conversation.kind and each.number not in had
        ]
        own = [each for each in found if each.thread == self._kept_to.get(live)]
        taken = set(self._kept_to.values())
        free = [each for each in found if each.thread not in taken]
        chosen = own or free or found
        near = closest(key.moves, [each for each in chosen if each.turn.outcome != "abandoned"] or chosen)
        return None if near is None else self._take(live, key, near)

    def give_back(self, conversation: Conversation, turn: Recorded) -> None:
        """Note that `turn` has not answered `conversation`, because the live agent disconnected before the answer."""
        self._had.get(thread_of(conversation), {}).pop(turn.number, None)

    def _next(self, live: Thread, found: Sequence[Recorded]) -> Recorded:
        """Return the first turn in `found` that has answered no live conversation.

        If each turn has answered a live conversation, return the first turn that has not answered the conversation
        `live`. If each turn has answered `live`, too, return the last turn.
        """
        had = self._had.get(live, {})
        turns = [each for each in found if each.thread == found[0].thread]  # several may have equal requests
        turns = [each for each in turns if each.turn.outcome != "abandoned"] or turns
        left = [each for each in turns if each.number not in had]
        return next((each for each in left if not self._is_given(each)), (left or turns[-1:])[0])

    def _is_given(self, turn: Recorded) -> bool:
        return any(turn.number in had for had in self._had.values())

    def _take(self, live: Thread, key: Key, found: Recorded) -> Recorded:
        self._kept_to[live] = found.thread
        had = self._had.setdefault(live, {})
        had.pop(found.number, None)
        had[found.number] = key
        return found


def closest(moves: Moves, turns: Iterable[Recorded]) -> Recorded | None:
    """Return the turn whose request has the longest beginning in common with `moves`; None if there is no turn.

    Of several such turns, return the first.
    """
    without_system = [move for move in moves if move.role != "system"]

    def in_common(turn: Recorded) -> int:
        return common_head(without_system, [move for move in turn.key.moves if move.role != "system"])

    return max(turns, key=in_common, default=None)


_MOST_NAMES = 10
"""Maximum number of turn ids that an error lists."""

TurnName: TypeAlias = str | int | tuple[str, int]
"""Name of a turn:

* its id;
* its number within the main conversation, from 0 (a negative number counts from the end);
* a conversation and the turn's number in it, or only the conversation, for its first turn.

A conversation is named by its id, or by its name in `triocept show`: `sub-agent 1`."""


def find_turn(record: Record, name: TurnName) -> Recorded:
    """Return the turn that `name` names.

    Raises:
        LookupError: there is no such turn. The error's text lists the existing turns.
    """
    names = {called: id_ for (id_, _), called in names_of(each.conversation for each in record.turns).items()}
    if isinstance(name, str):
        for each in record.turns:
            if each.turn.id == name:
                return each
        if name in names:
            return find_turn(record, (name, 0))
        raise LookupError(
            f"the trace of rollout {record.trace.rollout} has no turn {name!r}; its turns are: "
            f"{', '.join(each.turn.id for each in record.turns[:_MOST_NAMES]) or 'none'}"
            f"{', …' if len(record.turns) > _MOST_NAMES else ''}"
        )
    conversation, number = (None, name) if isinstance(name, int) else name
    turns = [
        each
        for thread, each_thread in record.threads.items()
        if not thread[1]
        for each in each_thread
        if (
            each.kind == "main"
            if conversation is None
            else thread[0] in (conversation, names.get(conversation))
        )
    ]
    called = "main conversation" if conversation is None else f"conversation {conversation!r}"
    if not turns and conversation is not None:
        there = ", ".join(names) or "none"
        raise LookupError(f"rollout {record.trace.rollout} has no {called}; its conversations are: {there}")
    if not -len(turns) <= number < len(turns):
        there = f"0 to {len(turns) - 1}" if len(turns) > 1 else "0" if turns else "none"
        raise LookupError(
            f"the {called} of rollout {record.trace.rollout} has no turn {number}; its turns are: {there}"
        )
    return turns[number]


def following(record: Record, launches: Mapping[Thread, Recorded], turn: Recorded) -> frozenset[int]:
    """Return the numbers of `turn` and of all turns that depend on its answer.

    The dependent turns are the later turns of the same conversation, and all turns of sub-agents that `turn` or a later
    turn launched.

    Args:
        record: the record.
        launches: the turn that launched each sub-agent (`Order.launches`).
        turn: the turn.
    """
    turns = record.threads[turn.thread]
    found = {each.number for each in turns[turns.index(turn) :]}
    for thread, launch in launches.items():  # in the order in which they began
        if launch.number in found:
            found |= {each.number for each in record.threads[thread]}
    return frozenset(found)


_PROVIDER: dict[str, FailureKind] = {
    "UpstreamError": "upstream",
    "UpstreamTruncated": "truncated",
    "ContextLengthError": "context_length",
}


async def give_again(exchange: Exchange, turn: Turn, translate: Callable[[str], str], pace: float) -> None:
    """Answer `exchange` with the outcome of a recorded turn.

    Args:
        exchange: the exchange.
        turn: the recorded turn.
        translate: function that replaces recorded directories in a text by live directories.
        pace: factor by which recorded times are multiplied.

    Raises:
        Refusal, UpstreamError: the recorded failure.
        StillThere: the recorded agent disconnected, but the live agent is still connected.
    """
    if turn.raw is not None and turn.raw.size == sum(len(data) for _, data in turn.raw.pieces):
        began = turn.duration if turn.first_event is None else turn.first_event
        await trio.sleep(began * pace)
        # Raw bytes stay unchanged (directories are not translated); only the pauses between them are scaled.
        body = tuple([item if isinstance(item, bytes) else item * pace for item in turn.raw.body])
        sent = msgspec.structs.replace(turn.raw, body=body)
        await core_of(exchange).respond_raw(Raw(sent, turn.response, complete=turn.outcome == "answered"))
        return
    response, hung_up, breaks = turn.response, turn.outcome == "abandoned", turn.outcome != "answered"
    if breaks and response is not None and not (response.content or response.id):
        response = None
    if response is not None:
        content = tuple([_moved_part(part, translate) for part in response.content])
        # An answer in another dialect than the recorded dialect gets a new id.
        same_id = response.id if turn.dialect == exchange.dialect else ""
        response = msgspec.structs.replace(response, content=content, id=same_id)
    failure: Failure | None = None
    if breaks and not hung_up:
        error = turn.error or TurnError(type="", message="")
        if (kind := _PROVIDER.get(error.type)) is not None:
            failure = Failure(kind=kind, status=error.status or 502, message=error.message)
        else:
            is_last = error.type == "LimitReached" or error.status == 503
            status = (
                error.status if error.status and error.status >= 400 else 500
            )  # raw bytes may have any status
            should_retry = False if is_last else None
            failure = Failure(kind="refusal", status=status, message=error.message, should_retry=should_retry)
    answer = Answer(
        response=response,
        failure=failure,
        hung_up=hung_up,
        increments=turn.increments,
        first_event=turn.first_event,
        duration=turn.duration,
    )
    await give(exchange, answer, pace)


def _moved_part(part: ResponsePart, translate: Callable[[str], str]) -> ResponsePart:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return _with(part, "text", translate(text))
        case Reasoning(text=text) if not part.blobs:  # else its provider has signed it
            return _with(part, "text", translate(text))
        case ToolCall(arguments=arguments):
            before = arguments_value(arguments)
            after, moved = in_json(before, translate), translate(arguments)
            if before != arguments and arguments_value(moved) != after:
                moved = msgspec.json.encode(after).decode()  # the directories need escapes in JSON
            return _with(part, "arguments", moved)
        case _:
            return part


def _with(part: ResponsePart, name: str, text: str) -> ResponsePart:
    return part if getattr(part, name) == text else msgspec.structs.replace(part, **{name: text})
