"""Responses over a websocket, frame by frame; real Codex speaks it in tests/real_agents."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai.resources.responses
import pytest
import trio
import trio.testing
import trio_websocket

from tests.asking import connected
from triocept import Exchange, Refusal, Rollout, ToolCall, serve_endpoint
from triocept._server import websocket as websocket_module

pytestmark = [pytest.mark.usefixtures("every_way")]

Frame = dict[str, Any]


class Agent:
    """An agent's end of a websocket."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket

    async def send(self, frame: Any) -> None:
        await self.socket.send_message(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))

    async def next(self) -> Frame:
        frame: Frame = json.loads(await self.socket.get_message())
        return frame

    async def until(self, *kinds: str) -> list[Frame]:
        """The frames up to one of these types."""
        frames = [await self.next()]
        while frames[-1]["type"] not in kinds:
            frames.append(await self.next())
        return frames

    async def ask(self, text: str = "hi", **more: Any) -> list[Frame]:
        await self.send(create(text, **more))
        return await self.until("response.completed", "error")


def create(text: str = "hi", **more: Any) -> Frame:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return {"type": "response.create", "model": "m", "input": [item], "store": False, **more}


@asynccontextmanager
async def dialled(rollout: Rollout, key: str = "", **more: str) -> AsyncIterator[Agent]:
    url = httpx2.URL(rollout.base_url("openai_responses") + "/responses")
    headers = [(b"authorization", f"Bearer {key or rollout.api_key}".encode())]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    async with connected(url.port or 0) as stream, trio.open_nursery() as nursery:
        socket = await trio_websocket.wrap_client_stream(
            nursery, stream, url.host, url.path, extra_headers=headers
        )
        yield Agent(socket)
        await socket.aclose()


async def parrot(exchange: Exchange) -> None:
    """Says everything that it was told, from the beginning."""
    await exchange.respond(" | ".join(message.text for message in exchange.request.messages))


def said(frames: list[Frame]) -> str:
    output = frames[-1]["response"]["output"]
    return "".join(part["text"] for item in output for part in item["content"])


async def test_a_response_comes_as_the_events_of_its_stream_one_a_frame() -> None:
    async def in_pieces(exchange: Exchange) -> None:
        assert exchange.request.stream
        async with exchange.open_stream() as stream:
            await stream.send("hel")
            await stream.send("lo")
            await stream.send(ToolCall.of("bash", command="ls"))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(in_pieces) as rollout:
        async with dialled(rollout) as agent:
            frames = await agent.ask()
    kinds = [frame["type"] for frame in frames]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
    assert "".join(f["delta"] for f in frames if f["type"] == "response.output_text.delta") == "hello"
    assert kinds.count("response.output_item.done") == 2
    (turn,) = rollout.trace
    assert {f["response"]["id"] for f in frames if "response" in f} == {turn.response.id}
    assert turn.dialect == "openai_responses"


@pytest.mark.parametrize("count", ["0", "1"])
async def test_an_upgrade_that_was_tried_again_makes_no_call_a_retry(count: str) -> None:
    """Every call that said the same again got the first one's answer then."""

    async def number(exchange: Exchange) -> None:
        assert exchange.attempt == 1
        await exchange.respond(f"{len(exchange.rollout.trace)}")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(number) as rollout:
        async with dialled(rollout, x_stainless_retry_count=count) as agent:
            assert [said(await agent.ask()) for _ in range(3)] == ["0", "1", "2"]
    assert len(rollout.trace) == 3


@pytest.mark.parametrize("where", ["input", "metadata", "type", "stream_id"])
async def test_half_an_emoji_anywhere_in_a_frame_ends_no_websocket(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with dialled(rollout) as agent:
            frame = {**create("hi"), where: {"a": "cut \ud83d"} if where == "metadata" else "cut \ud83d"}
            await agent.send(json.dumps(frame))
            if where == "type":  # nobody knows it: it is left unread
                assert said(await agent.ask("next")) == "next"
                return
            frames = await agent.until("response.completed", "error")
            assert said(frames) == ("cut \ufffd" if where == "input" else "hi")
            if where == "stream_id":
                assert frames[-1]["stream_id"] == "cut \ufffd"
    assert not caplog.records


async def test_a_warm_up_is_answered_without_a_turn_and_the_call_behind_it_has_its_prefix() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with dialled(rollout) as agent:
            warm = await agent.ask("the long prefix", generate=False)
            assert [frame["type"] for frame in warm][0::2] == ["response.created", "response.completed"]
            assert warm[-1]["response"]["output"] == []
            assert warm[-1]["response"]["usage"]["output_tokens"] == 0
            assert len(rollout.trace) == 0
            first = await agent.ask("one", previous_response_id=warm[-1]["response"]["id"])
            assert said(first) == "the long prefix | one"
            second = await agent.ask("two", previous_response_id=first[-1]["response"]["id"])
            assert said(second) == "the long prefix | one | the long prefix | one | two"
            third = await agent.ask(input=[], previous_response_id=second[-1]["response"]["id"])
            assert said(third).endswith("two | " + said(second))
    assert [len(turn.request.messages) for turn in rollout.trace] == [2, 4, 5]
    assert list(rollout.trace.parents.values()) == [None, *(turn.id for turn in rollout.trace)][:3]


async def test_a_warm_up_is_forgotten_with_its_socket_but_a_turn_is_not() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with dialled(rollout) as agent:
            warm = (await agent.ask("prefix", generate=False))[-1]["response"]["id"]
            real = (await agent.ask("a"))[-1]["response"]["id"]
        async with dialled(rollout) as agent:
            (error,) = await agent.ask("b", previous_response_id=warm)
            assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found")
            assert said(await agent.ask("b", previous_response_id=real)) == "a | a | b"


BAD_FRAMES: dict[str, tuple[str | bytes, int, str]] = {
    "invalid JSON": ("{", 400, "not valid JSON"),
    "binary": (b"{}", 400, "not binary"),
    "no object": ("[]", 400, "must be a JSON object"),
    "no model": ('{"type":"response.create","input":"x"}', 400, "model"),
    "a bad item": ('{"type":"response.create","model":"m","input":[{"type":3}]}', 400, "input[0].type"),
    "a lane with a long name": (json.dumps(create(stream_id="a" * 257)), 400, "at most 256 characters"),
    "a lane that is no string": ('{"type":"response.create","stream_id":1}', 400, "stream_id"),
    "too large": (json.dumps(create("x" * 5000)), 413, "larger than 4000 bytes"),
    "too large in bytes, not in characters": (
        json.dumps(create("\N{MAN}" * 1500), ensure_ascii=False),
        413,
        "larger than 4000 bytes",
    ),
}


@pytest.mark.parametrize(("frame", "status", "words"), BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
async def test_a_frame_that_cannot_be_read_is_an_error_and_the_socket_stays_usable(
    frame: str | bytes, status: int, words: str
) -> None:
    async with serve_endpoint(max_body=4000) as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with dialled(rollout) as agent:
            await agent.send(frame)
            error = await agent.next()
            assert (error["type"], error["status"]) == ("error", status), "Codex ignores one without status"
            assert words in error["error"]["message"] + str(error["error"].get("param"))
            assert said(await agent.ask("still here")) == "still here"
    assert len(rollout.trace) == 1


async def test_a_frame_of_an_unknown_type_is_left_unread() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with dialled(rollout) as agent:
            await agent.send({"type": "response.processed", "response_id": "resp_1"})
            await agent.send({"type": "response.steer"})
            assert said(await agent.ask("hi")) == "hi"


async def test_a_second_call_while_one_runs_is_an_error_and_the_first_goes_on() -> None:
    go, caught = trio.Event(), trio.Event()

    async def slow(exchange: Exchange) -> None:
        caught.set()
        await go.wait()
        await parrot(exchange)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(slow) as rollout:
        async with dialled(rollout) as agent:
            await agent.send(create("first"))
            await caught.wait()
            (error,) = await agent.ask("second")
            assert (error["status"], error["error"]["code"]) == (400, "response_in_progress")
            go.set()
            assert said(await agent.until("response.completed")) == "first"
            assert said(await agent.ask("third")) == "third"
    assert len(rollout.trace) == 2


async def test_lanes_run_side_by_side_and_the_calls_of_one_lane_in_their_order() -> None:
    gates = {name: trio.Event() for name in ("a1", "a2", "b1")}
    begun: list[str] = []

    async def gated(exchange: Exchange) -> None:
        name = exchange.request.messages[-1].text
        begun.append(name)
        await gates[name].wait()
        await exchange.respond(name)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(gated) as rollout:
        async with dialled(rollout) as agent:
            for name in ("a1", "a2", "b1"):
                await agent.send(create(name, stream_id=name[0]))
            while sorted(begun) != ["a1", "b1"]:
                await trio.testing.wait_all_tasks_blocked()
            gates["b1"].set()
            frames = await agent.until("response.completed")
            assert {frame["stream_id"] for frame in frames} == {"b"}
            gates["a2"].set()
            gates["a1"].set()
            assert said(await agent.until("response.completed")) == "a1"
            assert said(await agent.until("response.completed")) == "a2"
            (error,) = await agent.ask("x", stream_id="c", previous_response_id="resp_none")
            assert error["stream_id"] == "c"
    assert begun[-1] == "a2"


async def test_what_waits_on_one_socket_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "MAX_WAITING", 2)
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout, dialled(rollout) as agent:
        for _ in range(3):
            await agent.send(create(stream_id="a"))
        error = await agent.next()
        assert (error["status"], error["headers"]["retry-after"]) == (429, "1")


async def test_a_refusal_is_an_error_frame_with_its_status_and_when_to_come_again() -> None:
    async def refuse(exchange: Exchange) -> None:
        raise Refusal(429, "not now", retry_after=2)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse) as rollout:
        async with dialled(rollout) as agent:
            (error,) = await agent.ask()
            assert (error["status"], error["error"]["message"]) == (429, "not now")
            assert error["headers"]["retry-after"] == "2"


async def test_a_stream_that_fails_in_the_middle_ends_with_an_error_frame_that_codex_reads() -> None:
    async def fail(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("hel")
            raise Refusal(503, "broken")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(fail) as rollout:
        async with dialled(rollout) as agent:
            frames = await agent.ask()
    assert (frames[-1]["type"], frames[-1]["status"]) == ("error", 503)
    assert frames[-1]["error"]["code"] == "server_error", "server_is_overloaded would stop it"
    assert "response.output_item.done" not in [frame["type"] for frame in frames]
    assert rollout.trace[0].outcome == "refused"


async def test_a_silence_is_filled_with_events_which_is_what_codex_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triocept._server.delivery.KEEPALIVE_EVERY", 0.02)
    enough = trio.Event()

    async def wait(exchange: Exchange) -> None:
        await enough.wait()
        await exchange.respond("at last")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(wait) as rollout:
        async with dialled(rollout) as agent:
            await agent.send(create())
            first = [await agent.next() for _ in range(5)]
            enough.set()
            last = (await agent.until("response.completed"))[-1]
    assert [frame["type"] for frame in first] == [
        "response.created",
        "response.in_progress",
        *["keepalive"] * 3,
    ]
    assert rollout.trace.answer(last["response"]["id"]) is not None, (
        "the id that was told first is the turn's"
    )
    assert first[0]["response"]["id"] == last["response"]["id"]


@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_an_agent_that_hangs_up_abandons_all_that_runs_or_lets_it_finish(policy: str) -> None:
    caught, go, cancelled = [0], trio.Event(), [0]

    async def wait(exchange: Exchange) -> None:
        caught[0] += 1
        try:
            await go.wait()
        except trio.Cancelled:
            cancelled[0] += 1
            raise
        await exchange.respond("done")

    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(wait, on_hangup=policy) as rollout:  # type: ignore[arg-type]
            async with dialled(rollout) as agent:
                await agent.send(create("a", stream_id="a"))
                await agent.send(create("b", stream_id="b"))
                while caught[0] < 2:
                    await trio.testing.wait_all_tasks_blocked()
                await trio.aclose_forcefully(agent.socket._stream)  # Codex: no close frame
            if policy == "finish":
                await trio.testing.wait_all_tasks_blocked(0.05)
                go.set()
            while len(rollout.trace) < 2:
                await trio.testing.wait_all_tasks_blocked(0.01)
            if policy == "finish":
                async with dialled(rollout) as agent:
                    assert said(await agent.ask("a")) == "done"
    assert cancelled[0] == (2 if policy == "cancel" else 0)
    assert [turn.outcome for turn in rollout.trace] == ["abandoned" if policy == "cancel" else "answered"] * 2


async def test_a_socket_ends_with_its_rollout_and_what_waits_is_refused_first() -> None:
    caught = trio.Event()

    async def wait(exchange: Exchange) -> None:
        caught.set()
        await trio.sleep_forever()

    async def ask(rollout: Rollout) -> None:
        async with dialled(rollout) as agent:
            (error,) = await agent.ask()
            assert (error["type"], error["status"]) == ("error", 503)
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await agent.next()
            assert closed.value.reason.code == 1001

    async with serve_endpoint(grace=30) as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout(wait) as rollout:
            nursery.start_soon(ask, rollout)
            await caught.wait()


async def test_an_idle_socket_does_not_hold_the_end_of_the_endpoint_up() -> None:
    answered = trio.Event()

    async def ask(rollout: Rollout) -> None:
        async with dialled(rollout) as agent:
            await agent.ask()
            answered.set()
            with pytest.raises(trio_websocket.ConnectionClosed):
                await agent.next()

    async with trio.open_nursery() as nursery:
        async with serve_endpoint(grace=30) as endpoint:
            async with endpoint.open_rollout(parrot) as rollout:
                nursery.start_soon(ask, rollout)
                await answered.wait()
            start = trio.current_time()
        assert trio.current_time() - start < 25


async def test_a_stopped_rollout_closes_its_sockets_and_refuses_the_next_one_with_404() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with dialled(rollout) as agent:
            await agent.ask()
            await rollout.stop("enough")
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await agent.next()
        with pytest.RaisesGroup(trio_websocket.ConnectionRejected) as rejected:
            async with dialled(rollout):
                raise AssertionError
    assert closed.value.reason.code == 1001
    assert rejected.value.exceptions[0].status_code == 404, "which is final to Codex"


async def test_what_a_stopped_rollout_was_at_gets_its_error_before_its_socket_closes() -> None:
    caught = trio.Event()

    async def wait(exchange: Exchange) -> None:
        caught.set()
        await trio.sleep_forever()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(wait) as rollout:
        async with dialled(rollout) as agent:
            for text in ("at work", "behind it"):
                await agent.send(create(text, stream_id="a"))
            await caught.wait()
            await rollout.stop("enough")
            assert [(await agent.next())["status"] for _ in range(2)] == [404, 404]
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await agent.next()
    assert closed.value.reason.code == 1001


async def test_who_has_no_key_gets_no_socket() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        with pytest.RaisesGroup(trio_websocket.ConnectionRejected) as rejected:
            async with dialled(rollout, key="sk-other"):
                raise AssertionError
    (refusal,) = rejected.value.exceptions
    assert refusal.status_code == 401
    assert json.loads(refusal.body or "")["error"]["code"] == "invalid_api_key"


async def test_after_a_handlers_fault_every_further_call_of_the_socket_is_told_at_once() -> None:
    async def handle(exchange: Exchange) -> None:
        if exchange.request.messages[-1].text == "wait":
            begun.set()
            await trio.sleep_forever()
        raise KeyError("boom")

    async def wait(agent: Agent) -> None:
        errors.append((await agent.ask("wait"))[-1])

    errors, begun = list[Frame](), trio.Event()
    async with serve_endpoint() as endpoint, trio.open_nursery() as agents:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(handle) as rollout:
                with trio.CancelScope(shield=True):
                    async with dialled(rollout) as one, dialled(rollout) as other:
                        agents.start_soon(wait, other)
                        await begun.wait()
                        errors.append((await one.ask("fail"))[-1])
                        while len(errors) < 2:
                            await trio.lowlevel.checkpoint()
                        errors.append((await one.ask("later"))[-1])
                        errors.append((await other.ask("and later"))[-1])
    told = [(frame["type"], frame["status"], frame["error"]["message"]) for frame in errors]
    assert told == [("error", 500, "the program that answers this call failed (KeyError)")] * 4
    assert [turn.outcome for turn in rollout.trace] == ["failed", *["refused"] * 3]


async def test_an_endpoint_without_websockets_answers_426_which_sends_codex_to_post() -> None:
    async with serve_endpoint(websocket=False) as endpoint, endpoint.open_rollout(parrot) as rollout:
        with pytest.RaisesGroup(trio_websocket.ConnectionRejected) as rejected:
            async with dialled(rollout):
                raise AssertionError
    assert rejected.value.exceptions[0].status_code == 426


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
@pytest.mark.skipif(
    not hasattr(openai.resources.responses.Responses, "connect"), reason="an SDK that has no websocket yet"
)
async def test_openais_own_sdk_speaks_it() -> None:
    def agent(rollout: Rollout) -> list[str]:
        texts = []
        with rollout.client("openai_chat", sync=True) as client, client.responses.connect() as connection:
            previous: dict[str, str] = {}
            for text in ("a", "b"):
                connection.response.create(model="m", input=text, **previous)
                for event in connection:
                    if event.type == "response.completed":
                        texts.append(event.response.output_text)
                        previous = {"previous_response_id": event.response.id}
                        break
        return texts

    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        assert await trio.to_thread.run_sync(agent, rollout) == ["a", "a | a | b"]
