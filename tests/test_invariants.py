"""Each invariant of the design, under its own name. See docs/explanation/invariants.md for their words."""

import inspect
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing

import triocept
from tests.asking import ask, ask_body, bearer, connected, echo, raw_request, read_to_end, url_of
from triocept import Exchange, JSONLRecorder, Text, Turn, read_traces, run_endpoint, serve_endpoint
from triocept._canonical.events import ResponseEnd
from triocept._trace.trace import TraceWriter

pytestmark = pytest.mark.usefixtures("every_way")


async def test_invariant_1_no_caller_can_see_an_unstarted_endpoint() -> None:
    async with serve_endpoint() as endpoint:
        assert endpoint.port != 0
        async with connected(endpoint.port):
            pass
    async with trio.open_nursery() as nursery:
        started = await nursery.start(run_endpoint)
        assert started.port != 0
        async with connected(started.port):
            pass
        nursery.cancel_scope.cancel()


async def test_invariant_2_the_port_is_bound_once_and_held() -> None:
    async with serve_endpoint() as endpoint:
        port = endpoint.port
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}"):
            async with serve_endpoint(port=port):
                raise AssertionError("two endpoints on one port")
    async with serve_endpoint() as again:
        assert again.port != 0


async def test_invariant_3_one_exchange_has_one_outcome() -> None:
    async def twice(exchange: Exchange) -> None:
        await exchange.respond("once")
        with pytest.raises(triocept.errors.AlreadySettled):
            await exchange.respond("twice")
        with pytest.raises(triocept.errors.AlreadySettled):
            await exchange.refuse(429, "no")
        with pytest.raises(triocept.errors.AlreadySettled):
            async with exchange.open_stream():
                pass

    async def never(exchange: Exchange) -> None:
        pass

    async def collect(rollout: triocept.Rollout) -> None:
        replies.append(await ask(rollout))

    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(twice) as rollout:
            assert (await ask(rollout)).json()["choices"][0]["message"]["content"] == "once"
        assert [turn.outcome for turn in rollout.trace] == ["answered"]
        replies: list[httpx2.Response] = []
        async with trio.open_nursery() as nursery:
            with pytest.raises(triocept.errors.Unanswered):
                async with endpoint.open_rollout(never) as rollout:
                    nursery.start_soon(collect, rollout)
                    await trio.sleep_forever()
        assert [reply.status_code for reply in replies] == [500]
        assert [turn.outcome for turn in rollout.trace] == ["failed"]


class WatchingRecorder:
    """Asks, when a turn is recorded, what the agent has seen by then."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.received = bytearray()

    async def record(self, turn: Turn) -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)  # whatever was sent has arrived by now
        self.seen.append(bytes(self.received))

    async def seal(self, trace: triocept.Trace) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_invariant_4_recorded_before_released() -> None:
    recorder = WatchingRecorder()

    async def in_pieces(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("one ")
            await stream.send("two")

    async def read(stream: trio.SocketStream) -> None:
        async for piece in stream:
            recorder.received += piece
            if b"[DONE]" in recorder.received:
                return

    async with serve_endpoint(recorder=recorder) as endpoint:
        async with endpoint.open_rollout(in_pieces) as rollout, connected(endpoint.port) as stream:
            body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
            await stream.send_all(raw_request(rollout, body))
            await read(stream)
    (at_record,) = recorder.seen
    assert b"two" in at_record
    assert b'finish_reason":"stop' not in at_record
    assert b"[DONE]" not in at_record
    assert b'finish_reason":"stop' in recorder.received


async def test_invariant_5_no_task_outlives_its_async_with() -> None:
    running = 0

    async def wait(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            running -= 1

    before = len(trio.lowlevel.current_task().parent_nursery.child_tasks)  # type: ignore[union-attr]
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery, serve_endpoint() as endpoint:
        async with endpoint.open_rollout(wait) as rollout:
            for _ in range(5):
                nursery.start_soon(ask, rollout)
            while running < 5:
                await trio.sleep(0.01)
        assert running == 0
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    assert len(trio.lowlevel.current_task().parent_nursery.child_tasks) == before  # type: ignore[union-attr]


async def test_invariant_6_an_agent_that_hangs_up_cancels_its_exchange() -> None:
    cancelled = trio.Event()
    begun = trio.Event()

    async def wait(exchange: Exchange) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(wait) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(
                raw_request(rollout, b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
            )
            await begun.wait()
        await cancelled.wait()
        while not len(rollout.trace):
            await trio.sleep(0.01)
        assert rollout.trace[0].outcome == "abandoned"


async def test_invariant_6_with_policy_finish_the_answer_is_kept_for_the_agents_retry() -> None:
    begun, go, calls = trio.Event(), trio.Event(), 0

    async def slow(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        begun.set()
        await go.wait()
        await exchange.respond("worth waiting for")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(slow, on_hangup="finish") as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(
                raw_request(rollout, b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
            )
            await begun.wait()
        while rollout._core.calls.connections:  # until the server has noticed it
            await trio.testing.wait_all_tasks_blocked(0.01)
        go.set()
        while not len(rollout.trace):
            await trio.sleep(0.01)
        assert rollout.trace[0].outcome == "answered"
        async with httpx2.AsyncClient() as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            again = await client.post(url_of(rollout), json=body, headers=bearer(rollout))
        assert again.json()["choices"][0]["message"]["content"] == "worth waiting for"
        assert calls == 1
        assert len(rollout.trace) == 1


async def test_invariant_7_leaving_a_rollout_revokes_refuses_and_seals() -> None:
    replies: list[httpx2.Response] = []

    async def collect(rollout: triocept.Rollout) -> None:
        replies.append(await ask(rollout, dialect="anthropic_messages"))

    async with serve_endpoint() as endpoint:
        async with trio.open_nursery() as nursery:
            async with endpoint.open_rollout() as rollout:
                nursery.start_soon(collect, rollout)
                exchange = await anext(aiter(rollout))
            assert rollout.trace.sealed
        (pending,) = replies
        assert pending.status_code == 503
        assert pending.headers["x-should-retry"] == "false"
        assert pending.json()["type"] == "error"
        late = await ask(rollout)
        assert late.status_code == 401
        await exchange.respond("too late")  # no fault of whoever does, and nothing is done
        assert [turn.outcome for turn in rollout.trace] == ["refused"]
        with pytest.raises(RuntimeError, match="sealed"):
            TraceWriter(rollout.trace).add(rollout.trace[0])


def ask_in_a_thread(rollout: triocept.Rollout) -> httpx2.Response:
    return httpx2.post(url_of(rollout), json=ask_body(), headers=bearer(rollout), timeout=60)


async def in_the_body(rollout: triocept.Rollout) -> None:
    await ask(rollout)
    await trio.sleep_forever()


async def in_a_thread(rollout: triocept.Rollout) -> None:
    await trio.to_thread.run_sync(ask_in_a_thread, rollout, abandon_on_cancel=True)
    await trio.sleep_forever()


async def in_a_thread_that_is_waited_for(rollout: triocept.Rollout) -> None:
    await trio.to_thread.run_sync(ask_in_a_thread, rollout)
    await trio.lowlevel.checkpoint()


async def in_a_process(rollout: triocept.Rollout) -> None:
    script = (
        f"import httpx2; httpx2.post({url_of(rollout)!r}, json={ask_body()!r}, headers={bearer(rollout)!r})"
    )
    await rollout.run_agent([sys.executable, "-c", script])
    await trio.sleep_forever()


@pytest.mark.parametrize("handled", ["by open_rollout", "by serve"])
@pytest.mark.parametrize(
    "body",
    [in_the_body, in_a_thread, in_a_thread_that_is_waited_for, in_a_process, None],
    ids=lambda body: body.__name__ if body else "in_a_sibling_task",
)
async def test_invariant_8_nothing_raised_in_a_handler_vanishes(
    body: Callable[[triocept.Rollout], Awaitable[None]] | None, handled: str
) -> None:
    boom = ValueError("boom")
    replies: list[httpx2.Response] = []

    async def fail(exchange: Exchange) -> None:
        raise boom

    async def collect(rollout: triocept.Rollout) -> None:
        replies.append(await ask(rollout))

    async def run(rollout: triocept.Rollout, elsewhere: trio.Nursery) -> None:
        if body is not None:
            await body(rollout)
        else:
            elsewhere.start_soon(collect, rollout)
            await trio.sleep_forever()

    async def hold(endpoint: triocept.Endpoint, elsewhere: trio.Nursery) -> triocept.Rollout:
        if handled == "by open_rollout":
            async with endpoint.open_rollout(fail) as rollout:
                opened.append(rollout)
                await run(rollout, elsewhere)
        async with endpoint.open_rollout() as rollout:
            opened.append(rollout)
            async with trio.open_nursery() as nursery:

                async def serve() -> None:
                    try:
                        await rollout.serve(fail)
                    except ValueError as exc:
                        raised.append(exc)
                        nursery.cancel_scope.cancel()

                nursery.start_soon(serve)
                await run(rollout, elsewhere)
            raise raised[0]

    opened: list[triocept.Rollout] = []
    raised: list[ValueError] = []
    async with serve_endpoint() as endpoint, trio.open_nursery() as elsewhere:
        with pytest.raises(ValueError, match="boom") as caught:
            await hold(endpoint, elsewhere)
        assert caught.value is boom
    for reply in replies:
        assert reply.status_code == 500
        assert "ValueError" in reply.json()["error"]["message"]
        assert "boom" not in reply.text  # the program's own words stay with the program
    assert len(replies) == (body is None)
    assert [turn.outcome for turn in opened[0].trace] == ["failed"]


@pytest.mark.parametrize("place", ["task", "thread"])
async def test_invariant_8_no_agent_waits_for_an_answer_that_will_not_come(place: str) -> None:
    async def fail(exchange: Exchange) -> None:
        raise ValueError("boom")

    replies = []
    async with serve_endpoint() as endpoint:
        with pytest.raises(ValueError, match="boom"):
            async with endpoint.open_rollout(fail) as rollout:
                with trio.CancelScope(shield=True):  # it ends when its agent has, and not before
                    for _ in range(2):
                        if place == "task":
                            replies.append(await ask(rollout))
                        else:
                            replies.append(await trio.to_thread.run_sync(ask_in_a_thread, rollout))
    assert [(reply.status_code, reply.headers["x-should-retry"]) for reply in replies] == [(500, "false")] * 2
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused"]


async def test_invariant_8_a_refusal_or_an_upstream_error_is_an_answer() -> None:
    answers = [
        triocept.Refusal(429, "slow down", retry_after=2),
        triocept.UpstreamError("it is down", status=503, headers={"retry-after": "7"}),
    ]

    async def refuse(exchange: Exchange) -> None:
        if answers:
            raise answers.pop(0)
        await exchange.respond("fine")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse) as rollout:
        first = await ask(rollout)
        assert (first.status_code, first.headers["retry-after"]) == (429, "2")
        second = await ask(rollout)
        assert (second.status_code, second.headers["retry-after"]) == (503, "7")
        assert (await ask(rollout)).status_code == 200


async def test_invariant_8_an_agent_that_fails_because_its_handler_failed_is_not_taken_for_the_cause() -> (
    None
):
    async def fail(exchange: Exchange) -> None:
        raise ValueError("the cause")

    async with serve_endpoint() as endpoint:
        with pytest.raises(ValueError, match="the cause"):
            async with endpoint.open_rollout(fail) as rollout:
                (await ask(rollout)).raise_for_status()


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
async def test_invariant_9_a_stream_without_its_terminal_event_is_never_a_success(dialect: str) -> None:
    async def half(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("half of the ")
            raise triocept.Refusal(529, "overloaded")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(half) as rollout:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(rollout, dialect=dialect, stream=True)
        async with connected(endpoint.port) as stream:
            body = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}'
            path = url_of(rollout, dialect).removeprefix(endpoint.url)
            await stream.send_all(raw_request(rollout, body, path=path))
            data = await read_to_end(stream)
        assert b"half of the " in data
        assert b"overloaded" in data  # the dialect's in-band error
        assert b"[DONE]" not in data
        assert b"message_stop" not in data
        assert not data.endswith(b"0\r\n\r\n")
        assert {turn.outcome for turn in rollout.trace} == {"refused"}
        assert rollout.trace[0].response.text == "half of the "


async def test_invariant_10_what_a_dialect_does_not_understand_it_keeps() -> None:
    async def keep(exchange: Exchange) -> None:
        caught.append(exchange)
        await exchange.respond("ok")

    caught: list[Exchange] = []
    async with serve_endpoint() as endpoint, endpoint.open_rollout(keep) as rollout:
        await ask(rollout, from_the_future={"a": [1]}, dialect="anthropic_messages")
    (exchange,) = caught
    assert exchange.raw["from_the_future"] == {"a": [1]}
    assert exchange.request.extra["from_the_future"] == {"a": [1]}
    rendered = triocept.dialects.dialect("anthropic_messages").render_request(exchange.request)
    assert rendered["from_the_future"] == {"a": [1]}


async def test_invariant_11_keys_never_appear(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "httpx2")  # the agent's own line says its address
    seen: list[str] = []

    async def look(exchange: Exchange) -> None:
        seen.append(repr(exchange) + repr(dict(exchange.headers)) + repr(exchange.rollout))
        await exchange.respond("ok")

    file = tmp_path / "trace.jsonl"
    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout(look) as rollout:
            await ask(rollout)
            async with httpx2.AsyncClient() as client:
                wrong = await client.post(
                    url_of(rollout), json=ask_body(), headers={"x-api-key": rollout.api_key + "x"}
                )
                bad = await client.post(url_of(rollout), content=b"{", headers={"x-api-key": rollout.api_key})
                for model, named in (("m", rollout.api_key), (rollout.api_key, "r")):
                    body = {"model": model, "input": "a", "previous_response_id": named}
                    await client.post(url_of(rollout, "openai_responses"), json=body, headers=bearer(rollout))
                await client.post(f"{endpoint.url}/{rollout.api_key}", json={})
            seen += [repr(rollout.config("openai_chat")), repr(endpoint), wrong.text, bad.text]
            seen += [str(rollout.trace), repr(rollout.trace.turns)]
    everything = "\n".join(seen) + caplog.text + file.read_text()
    assert rollout.api_key not in everything
    assert "401" in caplog.text
    assert "400" in caplog.text


async def test_invariant_12_memory_is_bounded_nothing_is_kept_of_a_finished_exchange_but_its_turn() -> None:
    async with serve_endpoint(max_body=1000) as endpoint, endpoint.open_rollout(echo) as rollout:
        for _ in range(20):
            assert (await ask(rollout)).status_code == 200
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not rollout._core.calls.open
        assert not rollout._core.calls.connections
        assert (await ask(rollout, "x" * 1000)).status_code == 413


def test_invariant_13_every_public_async_function_is_a_checkpoint() -> None:
    async def check() -> None:
        with trio.fail_after(30):
            async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as other:
                async with endpoint.open_rollout() as rollout, trio.open_nursery() as nursery:
                    nursery.start_soon(ask, rollout)
                    exchange = await anext(aiter(rollout))
                    with trio.testing.assert_checkpoints():
                        await exchange.respond("hello")
                    nursery.start_soon(partial(ask, rollout, stream=True))
                    exchange = await anext(aiter(rollout))
                    async with exchange.open_stream() as stream:
                        for item in ("a", "b", triocept.ToolCall.of("t"), ResponseEnd()):
                            with trio.testing.assert_checkpoints():
                                await stream.send(item)
                    nursery.start_soon(ask, rollout)
                    exchange = await anext(aiter(rollout))
                    with trio.testing.assert_checkpoints():
                        await exchange.refuse(400, "no")
                    with trio.testing.assert_no_checkpoints():
                        assert exchange.settled
                        repr(rollout)
                        rollout.environ()
                    with trio.testing.assert_checkpoints():
                        await rollout.stop("enough")
                with trio.testing.assert_checkpoints():
                    await other.stop("enough")
                with trio.testing.assert_checkpoints():
                    await other.stop("again")

    trio.run(check)


CTRL_C = """
    import sys, trio, triocept

    async def answer(exchange):
        await exchange.respond("hello")

    async def main():
        recorder = triocept.JSONLRecorder(sys.argv[1])
        async with triocept.serve_endpoint(recorder=recorder) as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                async with rollout.client("openai_chat") as client:
                    await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
                print("ready", endpoint.port, flush=True)
                await trio.sleep_forever()

    trio.run(main)
"""


def test_invariant_14_ctrl_c_leaves_no_process_no_socket_and_a_readable_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(CTRL_C))
    with subprocess.Popen(
        [sys.executable, program, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("ready")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode in (1, 130, -signal.SIGINT)
    (trace,) = read_traces(file)
    assert trace.sealed
    assert [turn.outcome for turn in trace] == ["answered"]
    assert trace[0].response.content == (Text("hello"),)


def test_every_invariant_has_a_test_of_its_name() -> None:
    names = [name for name, value in globals().items() if inspect.isfunction(value)]
    for number in range(1, 15):
        assert any(name.startswith(f"test_invariant_{number}_") for name in names), number


assert os.name == "posix", "the tests are for POSIX"
