"""`record_wire=True` of a call over a websocket: the frame that asked, and those of its answer, each on a line."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.server.test_websocket import Agent, create, dialled, parrot
from tests.server.test_wire_view import break_off, refuse, say_in_pieces, say_whole, view_of
from triocept import Exchange, JSONLRecorder, ToolCall, Trace, serve_endpoint
from triocept._server import delivery
from triocept.exports import har_log

Handler = Callable[[Exchange], Awaitable[None]]


EVENTS = [b'data: {"type":"one"}\n\n', b'data: {"type":"two"}\n\ndata: {"type":"error"}\n\n']


async def say_raw(exchange: Exchange) -> None:
    await exchange.respond_raw(200, {"content-type": "text/event-stream"}, EVENTS)


async def say_raw_as_it_is_made(exchange: Exchange) -> None:
    await exchange.respond_raw(200, {"content-type": "text/event-stream"}, iter(EVENTS))


async def call_a_tool(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("Look.")
        await stream.send(ToolCall.of("bash", command="ls"))


async def asked(handler: Handler, *frames: dict[str, Any]) -> tuple[Trace, list[list[str]]]:
    """The trace, and the frames that the agent got for each of these."""
    got = []
    with trio.fail_after(20):
        async with serve_endpoint(record_wire=True) as endpoint, endpoint.open_rollout(handler) as rollout:
            async with dialled(rollout) as agent:
                for frame in frames:
                    await agent.send(frame)
                    got.append(await until_the_end(agent))
    return rollout.trace, got


async def until_the_end(agent: Agent) -> list[str]:
    frames: list[str] = []
    while not frames or json.loads(frames[-1])["type"] not in (
        "response.completed",
        "error",
        "response.failed",
    ):
        frames.append(await agent.socket.get_message())
    return frames


def lines_of(trace: Trace) -> list[list[str]]:
    return [view_of(turn).answer.decode().splitlines() for turn in trace]


@pytest.mark.parametrize("lane", [{}, {"stream_id": "a"}])
@pytest.mark.parametrize(
    "answer",
    [say_whole, say_in_pieces, call_a_tool, refuse, break_off, parrot, say_raw, say_raw_as_it_is_made],
)
async def test_the_frames_of_a_call_are_kept_as_they_went(answer: Handler, lane: dict[str, str]) -> None:
    frame = create("hi", **lane)
    trace, got = await asked(answer, frame)
    assert lines_of(trace) == got
    view = view_of(trace[0])
    assert json.loads(view.body) == frame
    assert (view.method, view.status) == ("GET", 101)
    assert view.url == f"/rollout/{trace.rollout}/v1/responses"
    assert view.headers["upgrade"].lower() == "websocket"
    assert "[redacted]" in view.headers["authorization"]


async def test_each_call_of_a_socket_has_its_own_frames_and_a_warm_up_has_none() -> None:
    trace, got = await asked(
        say_in_pieces, create("hi", generate=False), create("one"), create("two", stream_id="a")
    )
    assert lines_of(trace) == got[1:]
    assert [json.loads(view_of(turn).body)["input"][0]["content"][0]["text"] for turn in trace] == [
        "one",
        "two",
    ]


async def test_a_silence_before_the_answer_and_a_slow_recorder_change_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """No-ops are frames with numbers, too; one more would come while the turn is recorded, whose frames are made."""
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 0.05)

    async def late(exchange: Exchange) -> None:
        await trio.sleep(0.2)
        await exchange.respond("hello")

    class Slow:
        """Records in its time."""

        def __init__(self) -> None:
            self._recorder = JSONLRecorder(tmp_path / "t.jsonl")

        async def record(self, turn: Any) -> None:
            await trio.sleep(0.2)
            await self._recorder.record(turn)

        async def seal(self, trace: Trace) -> None:
            await self._recorder.seal(trace)

        async def aclose(self) -> None:
            await self._recorder.aclose()

    async with serve_endpoint(record_wire=True, recorder=Slow()) as endpoint:
        async with endpoint.open_rollout(late) as rollout, dialled(rollout) as agent:
            await agent.send(create())
            got = await until_the_end(agent)
    numbers = [json.loads(frame)["sequence_number"] for frame in got]
    assert numbers == list(range(len(got)))
    assert lines_of(rollout.trace) == [got]


async def test_an_answer_that_cannot_be_recorded_is_an_error_frame_and_nothing_else() -> None:
    class Full:
        async def record(self, turn: Any) -> None:
            raise OSError("full")

        async def seal(self, trace: Trace) -> None:
            pass

        async def aclose(self) -> None:
            pass

    with pytest.raises(OSError, match="full"):
        async with serve_endpoint(record_wire=True, recorder=Full()) as endpoint:
            async with (
                endpoint.open_rollout(say_whole, on_fault="stay") as rollout,
                dialled(rollout) as agent,
            ):
                await agent.send(create())
                got = await until_the_end(agent)
    assert [json.loads(frame)["type"] for frame in got] == ["error"]


async def test_a_rollout_may_say_otherwise_than_its_endpoint() -> None:
    async def played(options: dict[str, Any], more: dict[str, Any]) -> Trace:
        with trio.fail_after(20):
            async with (
                serve_endpoint(**options) as endpoint,
                endpoint.open_rollout(say_in_pieces, **more) as rollout,
            ):
                async with dialled(rollout) as agent:
                    await agent.ask()
        return rollout.trace

    for name, field in (("record_wire", "wire"), ("record_increments", "increments")):
        kept = [
            getattr((await played(options, more))[0], field) is not None
            for options, more in (
                ({}, {}),
                ({name: True}, {}),
                ({name: True}, {name: False}),
                ({}, {name: True}),
            )
        ]
        assert kept == [False, True, False, True], name
    with pytest.raises(TypeError, match="record_wire must be a bool"):
        async with serve_endpoint(record_wire=1):  # type: ignore[arg-type]
            pass


async def test_an_archive_has_the_frames_of_a_websocket() -> None:
    trace, got = await asked(say_in_pieces, create())
    (entry,) = har_log([trace])["log"]["entries"]
    assert (entry["request"]["method"], entry["response"]["status"]) == ("GET", 101)
    assert entry["_resourceType"] == "websocket"
    sent, *received = entry["_webSocketMessages"]
    assert (sent["type"], json.loads(sent["data"])) == ("send", create())
    assert [(each["type"], each["data"]) for each in received] == [("receive", frame) for frame in got[0]]
    assert trace[0].outcome == "answered"
