"""Records of a run, in all sizes: tables, graphs, files, logs, and what looks things up in them."""

import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from tests.growth.documents import SHAPES, thought
from tests.growth.measured import Make, Work
from tests.upstream.provider import CHAT, MESSAGES
from triocept import Message, Request, Response, Text, ToolCall, Trace, Turn, read_traces
from triocept._canonical.memory import MessageTable
from triocept._canonical.tokens import Estimator
from triocept._process.output import OutputBuffer, redact
from triocept._rollout.answer import Answer, Subscription
from triocept._rollout.asking import Asking
from triocept._rollout.calls import retry_key
from triocept._rollout.outcome import Answered
from triocept._rollout.retries import meaning
from triocept._trace.check import check
from triocept._trace.conversations import Conversations
from triocept._trace.diff import diff_of
from triocept._trace.jsonl import JSONLRecorder
from triocept._trace.lines import lines_between
from triocept._trace.redaction import Redactor
from triocept._trace.search import Wanted
from triocept._trace.trace import Derived, TraceWriter
from triocept._trace.turn import UPSTREAM, Branch
from triocept._tunnel.program import Output
from triocept._upstream.history import restored
from triocept._upstream.redaction import Redaction
from triocept._util.terminal import visible
from triocept.types import PartDelta

KEY = "sk-0123456789abcdef0123"
ALIKE: dict[str, Callable[[int], list[Message]]] = {
    **SHAPES,
    "messages that differ beside their text": lambda n: [
        Message("user", (Text("a"),), extra={"k": k}) for k in range(n)
    ],
    "thoughts, one each": lambda n: [Message("assistant", (thought(k),)) for k in range(n)],
    "long texts that differ in the middle": lambda n: [
        Message("user", (Text(f"{'x' * 100}{k:09}{'x' * 100}"),)) for k in range(n)
    ],
    "calls that differ in their names": lambda n: [
        Message("assistant", (ToolCall(f"f{k}", "{}", "c"),)) for k in range(n)
    ],
}


def request_of(messages: list[Message], dialect: str = CHAT) -> Request:
    return Request(dialect=dialect, model="m", messages=tuple(messages))


def turn(number: int, messages: list[Message], said: Any = None, **more: Any) -> Turn:
    return Turn(
        id=f"x{number}",
        rollout="r",
        run="r",
        number=number,
        dialect=CHAT,
        request=request_of(messages),
        outcome="answered",
        response=said or Response.of(f"answer {number}"),
        started_at=0.0,
        duration=1.0,
        **more,
    )


def kept(shape: str, n: int) -> Work:
    """A conversation: counted, its messages kept once, and its place found."""
    request = request_of(ALIKE[shape](n))

    def work() -> None:
        Estimator().input_tokens(request)
        retry_key(request, None)
        _ = request.tool_results, request.system
        MessageTable().intern(request.messages)
        Conversations().add(turn(0, list(request.messages)))

    return work


def again(shape: str, n: int) -> Work:
    """A conversation that comes again, all of it made anew."""
    table, requests = MessageTable(), [request_of(ALIKE[shape](n)) for _ in range(2)]
    table.intern(requests[0].messages)
    return lambda: (table.intern(requests[1].messages), [meaning(request) for request in requests])


def many(n: int, messages: Callable[[int], list[Message]]) -> Trace:
    trace = Trace("r", run="r")
    for number in range(n):
        TraceWriter(trace).add(turn(number, messages(number)))
    return trace


def placed(messages: Callable[[int], list[Message]], n: int) -> Work:
    """Turns, told apart."""
    turns = list(many(n, messages))

    def work() -> None:
        told = Conversations()
        for each in turns:
            told.add(each)
        told.all()

    return work


def derived(calls: Callable[[int], tuple[list[Message], Response]], n: int) -> Work:
    """Turns: how they stand to each other, and what is found in them."""
    trace, redactor = Trace("r", run="r"), Redactor()
    for number in range(n):
        messages, answer = calls(number)
        kept = redactor.request(request_of(messages)).messages
        TraceWriter(trace).add(turn(number, list(kept), answer))
    turns = list(trace)

    def work() -> None:
        told = Derived(turns)
        told.relations()
        told.branches()
        told.find(Wanted(text="nothing of it"))

    return work


def resent(n: int) -> Work:
    """A run whose calls each repeat all that was said."""
    history: list[Message] = []

    def call(number: int) -> tuple[list[Message], Response]:
        history.append(Message("user", (Text(f"question {number}"),)))
        told = [*history]
        history.append(Message("assistant", (Text(f"answer {number}"),)))
        return told, Response.of(f"answer {number}")

    return derived(call, n)


def helpers(number: int) -> tuple[list[Message], Response]:
    """A sub-agent, that begins another."""
    task, nexts = (f"count all the files in folder {at}" for at in (number, number + 1))
    return [Message("user", (Text(task),))], Response.of(ToolCall.of("Agent", prompt=nexts))


def compacted(number: int) -> tuple[list[Message], Response]:
    """A call that goes on from the summary of the one before."""
    told = f"summary number {number - 1}" if number else "task"
    asked = Message("user", (Text(f"a summary of {number}, please"),))
    return [Message("user", (Text(told),)), asked], Response.of(f"summary number {number}")


def diffed(old: Callable[[int], list[Message]], new: Callable[[int], list[Message]], n: int) -> Work:
    """Two calls, compared."""
    before, after = turn(0, old(n)), turn(1, new(n))
    return lambda: diff_of(before, after)


def texts(word: str) -> Callable[[int], list[Message]]:
    return lambda n: [Message("user", (Text(f"{word} {k}"),)) for k in range(n)]


def alike(first: str, last: str) -> Callable[[int], list[Message]]:
    return lambda n: [Message("user", (Text(word),)) for word in (first, *["a"] * n, last)]


def long(end: str) -> Callable[[int], list[Message]]:
    return lambda n: [Message("user", (Text("a" * 100 * n + end),))]


def written(n: int) -> Work:
    """Turns, into a file and out of it."""
    trace = many(n, lambda k: [Message("user", (Text(f"question {k}"),))])

    async def write(path: Path) -> None:
        recorder = JSONLRecorder(path)
        for each in trace:
            await recorder.record(each)
        await recorder.seal(trace)
        await recorder.aclose()

    return in_folder(write)


def checked(look: Callable[[Path], object], n: int) -> Work:
    """A file of one conversation that is long from the first, and grows by a message with each of its calls."""

    async def write(path: Path) -> None:
        recorder = JSONLRecorder(path)
        trace, told = Trace("r", run="r"), [Message("user", (Text("a"),))] * (10 * n)
        for number in range(10 * n):
            told.append(Message("user", (Text(f"question {number}"),)))
            await recorder.record(turn(number, told))
            TraceWriter(trace).add_later(str(number), partial(turn, number, told))
        await recorder.seal(trace)
        await recorder.aclose()

    with tempfile.TemporaryDirectory() as folder:
        trio.run(write, Path(folder) / "t.jsonl")
        data = (Path(folder) / "t.jsonl").read_bytes()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "t.jsonl").write_bytes(data)
            look(Path(folder) / "t.jsonl")

    return work


def branched(n: int) -> Work:
    """A file of children, written and read."""
    traces = [
        Trace(f"r{name}", run=f"{name}", branch=Branch(rollout="r0", run="0") if name else None)
        for name in range(n)
    ]

    async def write(path: Path) -> None:
        recorder = JSONLRecorder(path)
        for trace in traces:
            await recorder.seal(trace)
        await recorder.aclose()

    return in_folder(write)


def in_folder(write: Callable[[Path], Awaitable[None]]) -> Work:
    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            trio.run(write, Path(folder) / "t.jsonl")
            read_traces(Path(folder) / "t.jsonl")

    return work


def damaged(n: int) -> Work:
    """Lines that were cut, one behind the other, none of which ends."""
    data = b'{"type":"turn","version":1,"turn":{"id":"' * n + b"\n"
    return lambda: list(lines_between(data))


def run_together(n: int) -> Work:
    """Whole lines without an end between them."""
    data = b'{"type":"seal","version":1,"rollout":"r","turns":0}' * n + b"\n"
    return lambda: list(lines_between(data))


def delivered(n: int) -> Work:
    """The increments of an answer, to whoever waits for it."""

    async def read(answer: Answer) -> None:
        subscription = Subscription(answer)
        await subscription.follow(Asking())
        subscription.close()

    async def main() -> None:
        answer = Answer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, answer)
            for _ in range(n):
                await answer.put(PartDelta(0, "x"))
            answer.end(Answered(Response.of("x" * n)))

    return partial(trio.run, main)


class Rollout:
    """One that has been answered so often by an upstream that signs what it thinks."""

    def __init__(self, n: int, said: Callable[[int], Response]) -> None:
        self.trace = Trace("r")
        messages: list[Message] = []
        for number in range(n):
            answer = said(number)
            TraceWriter(self.trace).add(
                turn(number, list(messages[-2:]), answer, notes={UPSTREAM: {"url": "here"}})
            )
            messages += [Message("user", (Text("go on"),)), Message("assistant", answer.content)]
        self.request = request_of(messages, MESSAGES)


def searched(said: Callable[[int], Response], n: int) -> Work:
    """The history of an agent that has lost what was signed."""
    rollout = Rollout(n, said)

    def work() -> None:
        records = SimpleNamespace(as_given=lambda turn: turn)
        fresh: Any = SimpleNamespaceWithRef(trace=rollout.trace, records=records)
        restored(rollout.request, fresh, upstream="here", dialect=CHAT)

    return work


class SimpleNamespaceWithRef(SimpleNamespace):
    """One that can be the key of a weak dictionary."""

    __hash__ = object.__hash__


def heard(n: int) -> Work:
    words = Output(lambda line: None)
    stream = words.open_stream()

    def work() -> None:
        for _ in range(n):
            stream._feed(b"a progress bar\r")
        for _ in range(n):
            stream._feed(b"x")

    return work


def kept_output(limit: int, n: int) -> Work:
    def work() -> None:
        buffer = OutputBuffer(limit)
        for _ in range(n):
            buffer.feed(b"some words\n")
        buffer.content()
        buffer.tail()

    return work


RECORDS: dict[str, Make] = {
    **{f"{shape}, kept": partial(kept, shape) for shape in ALIKE},
    **{f"{shape}, again": partial(again, shape) for shape in ALIKE},
    "turns of their own": partial(placed, lambda k: [Message("user", (Text(f"question {k}"),))]),
    "turns of one question": partial(placed, lambda k: [Message("user", (Text("question"),))]),
    "turns that send everything again": resent,
    "sub-agents of sub-agents": partial(derived, helpers),
    "summaries": partial(derived, compacted),
    "a diff of messages that differ": partial(diffed, texts("old"), texts("new")),
    "a diff of messages alike": partial(diffed, alike("b", "c"), alike("d", "e")),
    "an edit of a long message": partial(diffed, long("b"), long("c")),
    "turns, into a file and out of it": written,
    "turns of one conversation, checked": partial(checked, check),
    "turns of one conversation, out of a file": partial(checked, read_traces),
    "children in a file": branched,
    "a line that was cut often": damaged,
    "lines without an end": run_together,
    "increments of an answer": delivered,
    "a history of calls": partial(searched, lambda k: Response((thought(k), ToolCall("ls", "{}", f"c{k}")))),
    "a history of one word": partial(searched, lambda k: Response((thought(k), Text("ok")))),
    "a history of many words": partial(searched, lambda k: Response((thought(k), Text(f"ok {k}")))),
    "words of a tunnel's program": heard,
    "output of an agent": partial(kept_output, 10_000),
    "output of an agent, unbounded": partial(kept_output, 1 << 30),
    "secrets of an agent": lambda n: partial(redact, f"a {KEY} " * n, [KEY, "12345678"]),
    "a key in a text": lambda n: partial(Redaction(KEY).text, f"a {KEY} " * n),
    "a key in a document": lambda n: partial(
        Redaction(KEY).document, "[" + ",".join([f'"a\\n {KEY}"'] * n) + "]"
    ),
    "quotes in a text that is not a document": lambda n: partial(Redaction(KEY).document, '"\\"' * n),
    "a text on the screen": lambda n: partial(visible, "a\x1b[31m" * n),
}


STEADY_RECORDS: dict[str, Make] = {
    "words of a tunnel's program": heard,
    "output of an agent": partial(kept_output, 10_000),
}
"""What takes as much memory for n as for 2n."""
