"""What is recorded is what happened: in memory, in the file, after a kill at any moment."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from operator import is_
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.asking import ask
from triocept import (
    Exchange,
    JSONLRecorder,
    Message,
    Request,
    Response,
    Text,
    ToolCall,
    ToolResult,
    Trace,
    Turn,
    read_traces,
    serve_endpoint,
)
from triocept._canonical import memory
from triocept._canonical.form import message_key
from triocept._canonical.memory import MessageTable, equal_messages
from triocept._trace.trace import TraceWriter
from triocept.traces import RecorderGroup
from triocept.types import Blob, Media, Opaque, Part, Reasoning, RefusalText


def turn(number: int, *texts: str, rollout: str = "r", answer: str = "ok") -> Turn:
    """A turn whose conversation alternates between user and assistant."""
    messages = tuple(
        Message("user" if place % 2 == 0 else "assistant", (Text(text),)) for place, text in enumerate(texts)
    )
    return Turn(
        id=f"x{number}",
        rollout=rollout,
        number=number,
        dialect="openai_chat",
        request=Request(dialect="openai_chat", model="m", messages=messages),
        outcome="answered",
        response=Response.of(answer),
        started_at=1.5,
        duration=0.25,
    )


def record(file: Path, *turns: Turn, seal: bool = True) -> None:
    async def main() -> None:
        recorder = JSONLRecorder(file)
        traces: dict[tuple[str, str], Trace] = {}
        for each in turns:
            await recorder.record(each)
            trace = Trace(each.rollout, run=each.run)
            TraceWriter(traces.setdefault((each.rollout, each.run), trace)).add(each)
        for trace in traces.values():
            if seal:
                await recorder.seal(trace)
        await recorder.aclose()

    trio.run(main)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    turns = [
        turn(0, "a"),
        turn(1, "a", "ok", "b"),
        turn(2, "z", rollout="other"),
        turn(2, "a", "ok", "b", "ok", "c"),
    ]
    record(tmp_path / "t.jsonl", *turns)
    one, other = read_traces(tmp_path / "t.jsonl")
    assert list(one) == [turns[0], turns[1], turns[3]]
    assert list(other) == [turns[2]]
    assert one.sealed
    assert other.sealed


def test_a_conversation_that_grows_is_written_once(tmp_path: Path) -> None:
    long = "x" * 10_000
    texts = [f"{number}{long}" for number in range(40)]
    record(tmp_path / "t.jsonl", *(turn(n, *texts[: n + 1]) for n in range(40)))
    size = (tmp_path / "t.jsonl").stat().st_size
    assert size < 1.2 * 40 * 10_000, "each message once, not once a turn"
    (trace,) = read_traces(tmp_path / "t.jsonl")
    assert [len(each.request.messages) for each in trace] == list(range(1, 41))


def test_a_cut_last_line_is_left_out_and_the_trace_is_not_sealed(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "a"), turn(1, "b"))
    whole = file.read_bytes()
    for cut in range(1, len(whole)):
        file.write_bytes(whole[:cut])
        traces = read_traces(file)
        # One that lacks its newline alone is whole.
        lines = (whole[:cut] + whole[cut : cut + 1]).split(b"\n")[:-1]
        assert sum(map(len, traces)) == sum(line.startswith(b'{"type":"turn"') for line in lines)
        assert any(trace.sealed for trace in traces) == (len(lines) == whole.count(b"\n"))


KILLED = """
    import sys, trio, triocept
    from tests.asking import ask

    async def answer(exchange):
        await exchange.respond("hello")

    async def main():
        async with triocept.serve_endpoint(recorder=triocept.JSONLRecorder(sys.argv[1])) as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                for number in range(10_000):
                    await ask(rollout, str(number))
                    print(number, flush=True)

    trio.run(main)
"""


def test_every_answer_that_an_agent_has_seen_is_in_the_file_after_a_sigkill(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(KILLED))
    file = tmp_path / "t.jsonl"
    with subprocess.Popen(
        [sys.executable, program, file],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        seen = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.readlines()
    (trace,) = read_traces(file)
    assert len(trace) >= len(seen) >= 20
    assert not trace.sealed


async def test_an_endpoint_records_into_a_file_and_seals_it(tmp_path: Path) -> None:
    async def say(exchange: Exchange) -> None:
        await exchange.respond(Response.of("hm", ToolCall.of("t", a=[1, 2])))

    file = tmp_path / "t.jsonl"
    async with serve_endpoint(recorder=RecorderGroup([JSONLRecorder(file)])) as endpoint:
        async with endpoint.open_rollout(say) as rollout:
            await ask(rollout, "a")
            await ask(rollout, "b", stream=True)
    (trace,) = read_traces(file)
    assert list(trace) == list(rollout.trace)
    assert trace.sealed


def test_the_graph_follows_what_agents_send_back_not_byte_for_byte() -> None:
    call = ToolCall("bash", '{"command": "x"}', "call_1")
    same = ToolCall("bash", '{"command":"x"}', "call_1")
    assert message_key(Message("assistant", (Text(""), call))) == message_key(Message("assistant", (same,)))
    marked = Message("user", (Text("hi", {"cache_control": {"type": "ephemeral"}}),))
    assert message_key(marked) == message_key(Message("user", (Text("hi"),)))
    found: dict[str, Any] = {"type": "text", "text": "found"}
    inside = [
        {"type": "search_result", "content": [found | mark]}
        for mark in ({}, {"cache_control": {"type": "ephemeral"}})
    ]
    plain, hopped = (Message("user", (Opaque("anthropic_messages", block),)) for block in inside)
    assert message_key(hopped) == message_key(plain)
    assert message_key(Message("developer", (Text("s"),))) == message_key(Message("system", (Text("s"),)))
    result = Message("tool", (ToolResult(id="call_1", content=(Text("a"),)),))
    assert message_key(result) != message_key(
        Message("tool", (ToolResult(id="call_1", content=(Text("b"),)),))
    )


def test_threads_are_the_conversations_that_branch() -> None:
    trace = Trace("r")
    for each in (turn(0, "a"), turn(1, "a", "ok", "b"), turn(2, "title?"), turn(3, "a", "ok", "c")):
        TraceWriter(trace).add(each)
    assert trace.parents == {"x0": None, "x1": "x0", "x2": None, "x3": "x0"}
    assert [[each.id for each in thread] for thread in trace.threads] == [["x0", "x1"], ["x2"], ["x0", "x3"]]


def test_a_text_that_comes_back_in_the_pieces_in_which_it_was_streamed_is_the_same() -> None:
    def said(*messages: Message) -> Turn:
        request = Request(dialect="gemini", model="m", messages=messages)
        return msgspec.structs.replace(turn(len(trace)), id=f"x{len(trace)}", request=request)

    trace, user = Trace("r"), Message("user", (Text("a"),))
    pieces = [Message("assistant", (Text(text),)) for text in ("o", "k", "")]
    TraceWriter(trace).add(said(user))
    TraceWriter(trace).add(said(user, *pieces))  # to be gone on with: it answers "ok" once more
    TraceWriter(trace).add(said(user, *pieces, pieces[0], pieces[1], user))
    TraceWriter(trace).add(said(user, *pieces, user))
    assert trace.parents == {"x0": None, "x1": "x0", "x2": "x1", "x3": "x0"}


def test_equal_messages_are_one_object() -> None:
    table = MessageTable()
    first = table.intern(turn(0, "a", "b", "c").request.messages)
    second = table.intern(turn(1, "a", "b", "x", "c").request.messages)
    assert second[0] is first[0]
    assert [message.text for message in second] == ["a", "b", "x", "c"]
    assert table.intern(()) == ()


LONG = "a" * 100_000
LIKE_EACH_OTHER: list[Callable[[int], Part]] = [
    lambda number: Media(kind="file", data="eA==", name=f"{number}.txt"),
    lambda number: Media(kind="file", data="eA==", media_type=f"of/{number}"),
    lambda number: ToolResult(id="", name=f"tool {number}"),
    lambda number: Reasoning("", (Blob("gemini", f"kind {number}", "a"),)),
    lambda number: Opaque(f"dialect {number}", {}),
    lambda number: Text(f"{LONG}{number:8}{LONG[:99]}"),
    lambda number: Text("a", {"b": f"{LONG}{number:8}{LONG[:99]}"}),
]


@pytest.mark.parametrize("make", LIKE_EACH_OTHER, ids=lambda make: type(make(0)).__name__)
def test_messages_that_look_alike_are_not_each_compared_with_all(
    make: Callable[[int], Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bool] = []

    def equal(one: Message, other: Message) -> bool:
        compared.append(equal_messages(one, other))
        return compared[-1]

    monkeypatch.setattr(memory, "equal_messages", equal)
    table = MessageTable()
    first = tuple([Message("user", (make(number),)) for number in range(100)])
    assert all(map(is_, table.intern(first), first))
    again = [Message("user", (make(number),)) for number in reversed(range(100))]
    kept = table.intern((*again, *again), lambda message: pytest.fail("it is known"))
    assert all(map(is_, kept, [*first[::-1], *first[::-1]]))
    assert len(compared) < 300 * 10


def test_a_message_of_any_part_is_kept_once() -> None:
    def said() -> list[Message]:
        blobs = [Blob("anthropic_messages", "signature", data) for data in ("one", "two")]
        parts: list[Part] = [
            *(Text("a"), RefusalText("no"), Opaque("gemini", {"a": 1}), Media(kind="image", data="eA==")),
            *(ToolCall("f", "{}", "c"), ToolCall("f", "{}", "d"), ToolResult(id="c", content=(Text("a"),))),
            *(Reasoning("why", (blobs[0],)), Reasoning("why", (blobs[1],)), Reasoning("what", (blobs[0],))),
        ]
        return [Message("assistant", (part,)) for part in parts]

    table, first, again = MessageTable(), said(), said()
    assert table.intern(tuple(first)) == tuple(first)
    assert all(map(is_, table.intern(tuple(again)), first))
    assert [table.intern((message,))[0] for message in reversed(again)] == first[::-1]
    assert all(table.intern((message,))[0] is kept for message, kept in zip(again, first, strict=True))
