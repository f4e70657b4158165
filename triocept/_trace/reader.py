"""Read the traces in a file of `JSONLRecorder`, whole or damaged. The module `lines` describes the format.

Rules:

1. Every readable record is returned, except turns whose messages are missing.
2. A trace is sealed if the file proves that the trace is complete (see `proof`). Otherwise `trace.gaps` lists the
   problems.
3. `iter_file` yields a trace as soon as it has read the trace's last line, so that only unfinished traces are in
   memory.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, TypeAlias, TypeVar

import msgspec

from .._canonical.content import Message
from .._canonical.price import Price
from .._canonical.request import Request, Tool
from .._util.checks import check_type
from .._util.secrets import without_keys
from ..errors import DialectError
from .entries import AgentStart, Intent, Opening, Score
from .lines import (
    BROKEN,
    VERSION,
    AgentLine,
    BlobLine,
    Found,
    IntentLine,
    Line,
    OpenLine,
    OtherLine,
    Piece,
    ScoreLine,
    SealLine,
    ServiceLine,
    TurnLine,
    Unreadable,
    found_lines,
    lines_in,
    other_version,
)
from .proof import Proof, RangedConversation, RecentRanges, Unfit
from .trace import Trace, TraceWriter
from .turn import Branch, Turn, TurnRecord

OnDamage: TypeAlias = Callable[[DialectError], object]
Key: TypeAlias = tuple[str, str]
E = TypeVar("E", Opening, AgentStart, Intent, Score)
_FOREIGN = "this line does not belong to a triocept trace"
_HEAD = 1024 * 1024
"""Maximum bytes of a file that are read for a description of its content."""
_SHOWN = 40
"""Maximum characters of a file's first line that an error shows if the file is not a trace file."""
_KEYS = 5
"""Maximum keys that an error shows of a file that contains a JSON object."""
MOST_WARNINGS = 100
"""Maximum warnings for one file. (In a file of another format, each line causes a warning.)"""


def read_traces(path: str | os.PathLike[str], *, on_damage: OnDamage | None = None) -> list[Trace]:
    """Return the traces in a file of `JSONLRecorder`, in the order in which they began.

    If a line is unreadable, only that line is lost, with the turns whose messages it contains. An incomplete line at
    the end of the file does not count as damage: the program was killed during a write, or is still writing.
    `trace.sealed` is True if a trace is complete; otherwise `trace.gaps` lists the problems.

    Args:
        on_damage: called with a `DialectError` for each line that is unreadable, or does not fit the lines before it.
            The path in the error is `file:line`. The function may raise the error. None means a warning for each of the
            first hundred such lines.

    Raises:
        OSError: the file cannot be read.
        DialectError: the file is not a trace file, or has no readable line (for example, because triocept 0.2.0 wrote
            it), or a newer triocept wrote a line (the error's path is then `file:line`).
    """
    check_type(
        "path", path, (str, os.PathLike), "the path of one file", "call read_traces once for each file"
    )
    damages = Damages(None if on_damage is None else inf)
    reader = TraceReader(path, damages.take)
    for number, piece in found_lines(path):
        reader.add(piece, number)
    traces = reader.end()
    damages.raise_if_all(len(traces), path)
    for damage in damages.errors:
        if on_damage is None:
            warnings.warn(str(damage), stacklevel=2)
        else:
            on_damage(damage)
    if damages.more:
        warnings.warn(f"{path}: {damages.more:,} more lines cannot be read", stacklevel=2)
    return traces


class Damages:
    """Errors about unreadable lines, up to a maximum number. Further errors are only counted.

    Args:
        most: maximum errors kept; None means a hundred.
    """

    def __init__(self, most: float | None = None) -> None:
        self.errors: list[DialectError] = []
        self.more = 0
        self._most = MOST_WARNINGS if most is None else most

    def take(self, damage: DialectError) -> bool:
        kept = len(self.errors) < self._most
        if kept:
            self.errors.append(damage)
        else:
            self.more += 1
        return kept

    def raise_if_all(self, traces: int, path: str | os.PathLike[str]) -> None:
        if self.errors and not traces:
            raise error_of_all(self.errors, path)


def error_of_all(errors: Sequence[DialectError], path: str | os.PathLike[str]) -> DialectError:
    """Return one error for a file without a readable line. `errors` are the errors of its first lines."""
    if not all(error.problem.startswith(_FOREIGN) for error in errors):
        return errors[0]
    return DialectError(f"this is not a trace file: {content_of(path)}", path=os.fspath(path))


def content_of(path: str | os.PathLike[str]) -> str:
    """Return a text for an error: what a file contains that is not a trace file, and how to write a trace file."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    try:
        value: object = msgspec.json.decode(head)
    except BROKEN:
        line = without_keys(head.partition(b"\n")[0].decode(errors="replace"))
        content = f"its first line is {line[:_SHOWN]!r}{' …' if line[_SHOWN:] else ''}"
    else:
        content = "it contains a JSON list" if isinstance(value, list) else "it contains a JSON value"
        if isinstance(value, dict):
            keys = ", ".join(map(repr, [*value][:_KEYS]))
            content = f"it contains a JSON object with the keys {keys}{', …' if len(value) > _KEYS else ''}"
    return f"{content}. Trace files are written by `triocept run --record FILE`, and by JSONLRecorder in a program"


def iter_file(
    path: str | os.PathLike[str], on_damage: OnDamage | None, warn: Callable[[str], object]
) -> Generator[Trace]:
    """Yield each trace in a file as soon as its last line was read.

    Damage is reported as by `read_traces`. If `on_damage` is None, `warn` is called with the text of each warning.

    The file is read twice. The first reading counts the lines of each rollout, because a score may come after a seal.
    Lines that are added to the file during the iteration are not read.
    """
    damages, count = Damages(), 0

    def take(damage: DialectError) -> None:
        kept = damages.take(damage)
        if on_damage is not None:
            on_damage(damage)
        elif kept:
            warn(str(damage))

    reader = TraceReader(path, take)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        left = Counter(key_of(piece.line) for _, piece in lines_in(file, size) if isinstance(piece, Found))
        file.seek(0)
        for number, piece in lines_in(file, size):
            reader.add(piece, number)
            if isinstance(piece, Found):
                left[key := key_of(piece.line)] -= 1
                if not left[key] and (trace := reader.give(key)) is not None:
                    count += 1
                    yield trace
    rest = reader.end()
    if on_damage is None:
        damages.raise_if_all(count + len(rest), path)
    if damages.more and on_damage is None:
        warn(f"{path}: {damages.more:,} more lines cannot be read")
    yield from rest


def key_of(line: Line | OtherLine) -> Key:
    return line.rollout, line.run


class TraceReader:
    """Reader that builds traces, line by line.

    Args:
        path: the path of the file, which errors name.
        on_damage: called with an error for each line that is unreadable, or does not fit the lines before it.
        prices: the prices of the rollouts' `Limits`. (The file does not contain them.)
    """

    def __init__(
        self, path: str | os.PathLike[str], on_damage: OnDamage, prices: Mapping[str, Price] | None = None
    ) -> None:
        self._path = os.fspath(path)
        self._on_damage = on_damage
        self._prices = prices
        self._runs: dict[Key, _Run] = {}

    def add(self, piece: Piece, number: int) -> None:
        """Read the next piece of the file (a line, or unreadable bytes), which is in line `number`.

        Raises:
            DialectError: a newer triocept wrote the line.
        """
        place = f"{self._path}:{number}"
        try:
            match piece:
                case Unreadable(version=version) if version > VERSION:
                    raise DialectError(other_version(version), path=place)
                case Unreadable(version=version) if version:
                    raise Unfit(other_version(version))
                case Unreadable(cut=True):
                    pass
                case Unreadable(why=why):
                    raise Unfit(f"{_FOREIGN}: {why}")
                case Found(line=line, data=data):
                    key = key_of(line)
                    if (run := self._runs.get(key)) is None:
                        run = self._runs[key] = _Run(*key, self._path, self._prices)
                    branch = line.branch if isinstance(line, OpenLine) else None
                    if branch is not None and run.trace.branch is None:
                        parent = self._runs.get((branch.rollout, branch.run))
                        if parent is not None:
                            parent.writer.add_child(run.trace)
                    run.add(line, data, number)
        except Unfit as exc:
            self._on_damage(DialectError(str(exc), path=place))

    def give(self, key: Key) -> Trace | None:
        """Remove a rollout that has no further lines, and return its trace; None if the rollout is unknown."""
        run = self._runs.pop(key, None)
        return run.finished() if run is not None else None

    def trace(self, key: Key) -> Trace:
        return self._runs[key].trace

    def intent(self, key: Key, call: str) -> Intent | None:
        """Return the intent of the call `call`, whose turn was not read yet.

        Return None if the call is unknown, or if some of its messages are missing.
        """
        make = self._runs[key].intents.get(call)
        return make() if make is not None else None

    def end(self) -> list[Trace]:
        runs, self._runs = self._runs, {}
        return [run.finished() for run in runs.values()]


class _Run:
    """The trace of one rollout, and the state for reading further lines of this rollout."""

    def __init__(self, rollout: str, run: str, path: str, prices: Mapping[str, Price] | None) -> None:
        self.trace = Trace(rollout, run=run, prices=prices)
        self.writer = TraceWriter(self.trace)
        self.proof = Proof(rollout, run, path, self.writer.miss)
        self._messages: dict[int, Message] = {}
        self._tools: dict[int, tuple[Tool, ...]] = {}
        self._conversations = RecentRanges(self._message)
        self.intents: dict[str, partial[Intent]] = {}
        """For each call whose turn was not read yet, by id: a function that makes the call's intent. (Intents and turns
        are made on first use.)"""
        self._sealed_at: float | None = None

    def add(self, line: Line | OtherLine, data: memoryview, number: int) -> None:
        """Add a line of the rollout.

        Raises:
            Unfit: the line repeats an earlier line, or names a message or a list of tools that is missing.
        """
        if not self.proof.take(line, data, number):
            raise Unfit(f"the file contains line {line.seq} of rollout {line.rollout} twice")
        match line:
            case OpenLine():
                self._messages, self._tools, self._conversations = {}, {}, RecentRanges(self._message)
                self.writer.open(entry_of(Opening, line))
            case AgentLine():
                self.writer.add(entry_of(AgentStart, line))
            case BlobLine():
                match self.proof.value:
                    case Unfit() as unfit:
                        raise unfit
                    case Message() as message:
                        self._messages[line.number] = message
                    case tuple() as tools:
                        self._tools[line.number] = tools
                    case _ if isinstance(line.same, int) and line.same in self._messages:
                        self._messages[line.number] = self._messages[line.same]
            case IntentLine():
                self._add_intent(line)
            case TurnLine():
                intent = self.intents.pop(line.call, None)
                if intent is None:
                    what = f"the request of turn {line.turn.number} of rollout {line.rollout}"
                    raise Unfit(f"{what} is not in the file")
                self.writer.add_later(line.call, partial(_turn, line, intent, self.trace.branch))
            case ServiceLine():
                self.writer.add(line.call)
            case ScoreLine():
                self.writer.add(score_of(line))
            case SealLine():
                self._sealed_at = line.at
                self.writer.stop(line.stopped)
                self.writer.end(line.ended)
            case OtherLine():
                if line.kind == "turn":  # the call has an outcome
                    self.intents.pop(str(line.call), None)
                raise Unfit(f"rollout {line.rollout}: {line}")

    def _message(self, before: list[Message], number: int) -> Message:
        return self._messages[number]

    def finished(self) -> Trace:
        """Return the trace. All lines of the rollout must have been read before.

        If no line is missing, the trace is sealed (complete).
        """
        proof = self.proof
        proof.end()
        for intent in self.intents.values():
            self.writer.add(intent())
        if proof.digest is not None:
            self.writer.set_digest(proof.digest)
        if proof.whole:
            self.writer.seal(self._sealed_at)
        return self.trace

    def _add_intent(self, line: IntentLine) -> None:
        bare = self.proof.value
        if isinstance(bare, Unfit):
            raise bare
        assert isinstance(bare, Request)
        try:
            conversation = self._conversations.go_on(line.messages)
            tools = self._tools[line.tools] if line.tools is not None else ()
        except KeyError as exc:
            what = f"message or list of tools {exc} of call {line.call} of rollout {line.rollout}"
            raise Unfit(f"{what} is not in the file") from None
        self.intents[line.call] = partial(_intent, line, bare, conversation, len(conversation.values), tools)


def _intent(
    line: IntentLine,
    bare: Request,
    conversation: RangedConversation[Message],
    count: int,
    tools: tuple[Tool, ...],
) -> Intent:
    request = msgspec.structs.replace(bare, messages=conversation.head(count), tools=tools)
    return entry_of(Intent, line, id=line.call, dialect=bare.dialect, request=request)


def _turn(line: TurnLine, make_intent: Callable[[], Intent], branch: Branch | None) -> Turn:
    intent = make_intent()
    return Turn(
        **{name: getattr(line.turn, name) for name in _RECORD},
        id=line.call,
        rollout=line.rollout,
        run=line.run,
        branch=branch,
        dialect=intent.dialect,
        request=intent.request,
        agent=intent.agent,
    )


_RECORD = TurnRecord.__struct_fields__


def score_of(line: ScoreLine) -> Score:
    return entry_of(Score, line)


def entry_of(kind: type[E], line: Line, **more: Any) -> E:
    """Return the entry that a line contains.

    `more` contains fields whose names in the line differ from those in the entry.
    """
    names = [name for name in kind.__struct_fields__ if name not in more]
    return kind(**{name: getattr(line, name) for name in names}, **more)
