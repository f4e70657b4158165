"""Rollouts and exchanges, as a program uses them: over real sockets, since what matters is what the agent sees."""

import gc
import json
import weakref
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import ask, ask_body, bearer, connected, echo, raw_request, url_of
from triocept import (
    DialectError,
    Exchange,
    ExchangeAbandoned,
    Refusal,
    Response,
    Rollout,
    Text,
    ToolCall,
    Usage,
    serve_endpoint,
)
from triocept.errors import AlreadySettled
from triocept.types import PartDelta, PartEnd, PartStart, Reasoning

pytestmark = pytest.mark.usefixtures("every_way")

BODY = json.dumps(ask_body("x")).encode()
WHO = ContextVar("WHO", default="nobody")
STREAMED = json.dumps(ask_body("x", stream=True)).encode()


async def test_the_calls_of_a_rollout_come_as_a_loop() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:

            async def agent() -> None:
                for text in ("a", "b", "c"):
                    assert (await ask(rollout, text)).json()["choices"][0]["message"]["content"] == text * 2
                await rollout.stop("enough")

            nursery.start_soon(agent)
            async for exchange in rollout:
                await exchange.respond(exchange.request.last.text * 2)
    assert [turn.number for turn in rollout.trace] == [0, 1, 2]


@pytest.mark.parametrize("item", ["lost", ToolCall.of("lost"), PartStart(0, Text("lost"))])
async def test_a_stream_whose_first_send_was_cancelled_goes_on_as_if_nothing_had_been_sent(item: Any) -> None:
    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.send(item)
            assert scope.cancelled_caught
            await stream.send("kept")
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.end()
            await stream.send(", too")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        reply = await ask(rollout, stream=True)
    assert [turn.response.content for turn in rollout.trace] == [(Text("kept, too"),)]
    assert "kept" in reply.text
    assert "lost" not in reply.text


async def test_an_agent_is_answered_by_its_own_rollout_only() -> None:
    async def say(what: str, exchange: Exchange) -> None:
        await exchange.respond(what)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(partial(say, "one")) as one:
        async with endpoint.open_rollout(partial(say, "two")) as two:
            for rollout, what in ((one, "one"), (two, "two")):
                assert (await ask(rollout)).json()["choices"][0]["message"]["content"] == what
    assert [len(one.trace), len(two.trace)] == [1, 1]


async def test_an_exchange_shows_the_request_as_a_value() -> None:
    seen: list[Exchange] = []

    async def look(exchange: Exchange) -> None:
        seen.append(exchange)
        exchange.annotate(reward=1.5, tags=["a"])
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
        async with httpx2.AsyncClient() as client:
            await client.post(
                url_of(rollout, "anthropic_messages"),
                json=ask_body(
                    "hi", system="be brief", tools=[{"name": "t", "input_schema": {"type": "object"}}]
                ),
                headers=bearer(rollout) | {"x-stainless-retry-count": "2", "x-mine": "yes"},
            )
    (exchange,) = seen
    assert exchange.dialect == "anthropic_messages"
    assert exchange.request.system == "be brief"
    assert [tool.name for tool in exchange.request.tools] == ["t"]
    assert exchange.attempt == 3
    assert exchange.headers["x-mine"] == "yes"
    assert exchange.headers["authorization"] == "[redacted]"
    assert exchange.rollout is rollout
    turn = rollout.trace[0]
    assert turn.id == exchange.id
    assert turn.notes == {"reward": 1.5, "tags": ["a"]}
    assert turn.attempt == 3
    assert turn.request.messages == exchange.request.messages
    with pytest.raises(Exception, match="no note can be added"):
        exchange.annotate(late=True)


async def test_a_turn_says_what_the_agent_was_given_to_the_last_id() -> None:
    async def call(exchange: Exchange) -> None:
        await exchange.respond(Response.of("look", ToolCall.of("bash", command="ls")))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(call) as rollout:
        document = (await ask(rollout)).json()
        await ask(rollout, "again", stream=True)
    turn = rollout.trace[0]
    assert document["id"] == turn.response.id
    sent = document["choices"][0]["message"]["tool_calls"][0]
    assert sent["id"] == turn.response.tool_calls[0].id
    assert json.loads(sent["function"]["arguments"]) == {"command": "ls"}
    assert document["choices"][0]["finish_reason"] == "tool_calls"
    assert turn.response.usage.estimated
    assert turn.duration >= 0


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_stream_of_parts_and_events_reaches_the_agent_whole(dialect: str, stream: bool) -> None:
    async def in_pieces(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send(Reasoning("let me see"))
            await out.send("Hel")
            await out.send("lo.")
            await out.send(ToolCall.of("a", x=1))
            await out.send(PartStart(3, ToolCall("b", "")))
            await out.send(PartDelta(3, '{"y":'))
            await out.send(PartDelta(3, "2}"))
            await out.send(PartEnd(3))
            await out.end(usage=Usage(input_tokens=7, output_tokens=9))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(in_pieces) as rollout:
        reply = await ask(rollout, dialect=dialect, stream=stream)
    assert reply.status_code == 200
    for word in ("let me see", "lo.", '"a"', '"b"', "9"):
        assert word in reply.text.replace('\\"', '"')
    response = rollout.trace[0].response
    assert [type(part).__name__ for part in response.content] == ["Reasoning", "Text", "ToolCall", "ToolCall"]
    assert response.tool_calls[1].parsed() == {"y": 2}
    assert response.stop_reason == "tool_use"
    assert response.usage == Usage(input_tokens=7, output_tokens=9)
    assert (rollout.trace[0].first_event is not None) is True


async def test_the_increments_of_a_stream_go_out_as_they_are_sent() -> None:
    seen = bytearray()

    async def two(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send("first")
            while b"first" not in seen:
                await trio.sleep(0.005)
            await out.send("second")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(two) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, STREAMED))
            while b"[DONE]" not in seen:
                seen += await stream.receive_some()
    assert b"x-accel-buffering: no" in seen.lower()


async def test_a_stream_that_breaks_the_grammar_is_refused_where_it_is_sent() -> None:
    async def wrong(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            with pytest.raises(DialectError, match="never started"):
                await out.send(PartDelta(4, "x"))
            await out.send("fine")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(wrong) as rollout:
        assert (await ask(rollout, stream=True)).status_code == 200


async def test_a_stream_whose_block_is_cancelled_leaves_the_exchange_to_whoever_cancelled_it() -> None:
    async def too_slow(exchange: Exchange) -> None:
        with trio.move_on_after(0.01):
            async with exchange.open_stream():
                await trio.sleep_forever()
        await exchange.refuse(503, "too slow")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(too_slow) as rollout:
        assert (await ask(rollout, stream=True)).status_code == 503
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_a_stream_that_has_not_ended_when_its_rollout_does_ends_with_its_block_without_a_word() -> None:
    went_on = False

    async def stop(exchange: Exchange) -> None:
        nonlocal went_on
        async with exchange.open_stream():
            await exchange.rollout.stop("enough")
        went_on = True

    async with serve_endpoint() as endpoint, endpoint.open_rollout(stop) as rollout:
        assert (await ask(rollout, stream=True)).status_code == 404
    assert went_on
    assert rollout.faults == ()


async def test_a_stream_says_whether_its_end_was_sent() -> None:
    async def twice(exchange: Exchange) -> None:
        async with exchange.open_stream() as out:
            await out.send("done")
            assert not out.ended
            await out.end()
            assert out.ended

    async with serve_endpoint() as endpoint, endpoint.open_rollout(twice) as rollout:
        assert (await ask(rollout, stream=True)).status_code == 200


async def test_a_refusal_before_the_first_increment_has_its_http_status() -> None:
    async def refuse(exchange: Exchange) -> None:
        async with exchange.open_stream():
            raise Refusal(529, "full", retry_after=1.5, should_retry=True)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse) as rollout:
        reply = await ask(rollout, stream=True, dialect="anthropic_messages")
    assert (reply.status_code, reply.headers["retry-after"], reply.headers["x-should-retry"]) == (
        529,
        "1.5",
        "true",
    )
    assert reply.json()["error"]["type"] == "overloaded_error"


async def test_a_stopped_rollout_ends_the_agent_with_404_and_its_iteration() -> None:
    replies: list[httpx2.Response] = []

    async def agent(rollout: Rollout) -> None:
        replies.append(await ask(rollout))

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent, rollout)
            async for _ in rollout:
                await rollout.stop("budget spent")
        late = await ask(rollout)
    assert [reply.status_code for reply in (*replies, late)] == [404, 404]
    assert "budget spent" in late.text
    assert [turn.error.type for turn in rollout.trace if turn.error] == ["LimitReached"]


async def test_who_answers_an_agent_that_has_hung_up_is_told() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, STREAMED))
            exchange = await anext(aiter(rollout))
            out = exchange.open_stream()
            writer = await out.__aenter__()
            await writer.send("half")
        while not exchange.settled:
            await trio.sleep(0.005)
        with pytest.raises(ExchangeAbandoned):
            await writer.send("more")
        with pytest.raises(ExchangeAbandoned):
            await out.__aexit__(None, None, None)
        with pytest.raises(ExchangeAbandoned):
            await exchange.respond("x")
    assert rollout.trace[0].outcome == "abandoned"
    assert rollout.trace[0].response.text == "half"


async def test_an_agent_that_hangs_up_while_it_waits_to_be_taken_is_not_handed_over() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, BODY))
            while not rollout._core.calls.open:
                await trio.sleep(0.005)
        while not len(rollout.trace):
            await trio.sleep(0.005)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, rollout, "second")
            exchange = await anext(aiter(rollout))
            assert exchange.request.last.text == "second"
            await exchange.respond("ok")
    assert [turn.outcome for turn in rollout.trace] == ["abandoned", "answered"]


async def test_handlers_run_side_by_side_as_many_as_asked_for() -> None:
    running = most = concurrency = 0
    full = trio.Event()

    async def count(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == concurrency:
            full.set()
        await full.wait()
        running -= 1
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint:
        for concurrency in (1, 3):
            running, most, full = 0, 0, trio.Event()
            async with endpoint.open_rollout(count, concurrency=concurrency) as rollout:
                async with trio.open_nursery() as nursery:
                    for number in range(9):
                        nursery.start_soon(ask, rollout, str(number))
            assert most == concurrency
            assert len(rollout.trace) == 9


async def test_a_handler_runs_in_the_context_of_whoever_opened_the_rollout_and_leaves_nothing_in_it() -> None:
    seen = []

    async def look(exchange: Exchange) -> None:
        seen.append(WHO.get())
        WHO.set("the handler before")
        await trio.lowlevel.checkpoint()
        assert WHO.get() == "the handler before"
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint:
        WHO.set("who opened it")
        async with endpoint.open_rollout(look) as rollout:
            WHO.set("its body")
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask, rollout)
            await ask(rollout)
    assert seen == ["who opened it"] * 6


async def test_the_next_exchange_is_not_cancelled_by_the_hang_up_of_the_one_before() -> None:
    async def swallow(exchange: Exchange) -> None:
        if exchange.request.last.text.startswith("hangs up"):
            taken.set()
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                return  # it hung up, and this handler, against all rules, goes on as if nothing had been
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(swallow) as rollout:
        for number in range(5):
            taken = trio.Event()
            async with connected(endpoint.port) as stream:
                body = json.dumps(ask_body(f"hangs up, {number}")).encode()
                await stream.send_all(raw_request(rollout, body))
                await taken.wait()
            assert (await ask(rollout, f"{number}")).status_code == 200
    assert sorted(turn.outcome for turn in rollout.trace) == ["abandoned"] * 5 + ["answered"] * 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_let_go_of_the_moment_it_has_ended(stream: bool) -> None:
    """Without waiting for the garbage collector: a cycle would keep each request's whole conversation until then."""
    exchanges: list[weakref.ref[Exchange]] = []

    async def answer(exchange: Exchange) -> None:
        exchanges.append(weakref.ref(exchange))
        if exchange.request.last is not None and exchange.request.last.text == "no":
            raise Refusal(429, "later")
        await exchange.respond("ok")

    async def call(connection: trio.SocketStream, text: str) -> None:
        before = len(exchanges)
        await connection.send_all(raw_request(rollout, json.dumps(ask_body(text, stream=stream)).encode()))
        await connection.receive_some()
        while len(exchanges) == before:  # that was the rest of the answer before this one
            await connection.receive_some()

    async def let_go(text: str) -> None:
        with trio.move_on_after(30):
            while exchanges[-1]() is not None:
                await trio.sleep(0.005)
        assert exchanges[-1]() is None, f"what answered {text!r} is still there"

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        async with connected(endpoint.port) as connection:
            await call(connection, "first")
            gc.collect()
            gc.disable()
            try:
                for text in ["a", "no"] * 10:
                    await call(connection, text)
                    await let_go(text)
                garbage = gc.collect()
            finally:
                gc.enable()
    assert len(exchanges) == 21
    assert garbage < 20, "less than one thing a call"


async def test_the_bodys_own_exception_leaves_bare() -> None:
    error = KeyError("mine")
    group = ExceptionGroup("mine too", [ValueError(1)])
    for exc in (error, group):
        with pytest.raises(type(exc)) as caught:
            async with serve_endpoint() as endpoint, endpoint.open_rollout(echo):
                raise exc
        assert caught.value is exc


async def test_what_fails_in_body_and_handler_both_is_kept() -> None:
    async def fail(exchange: Exchange) -> None:
        raise ValueError("handler")

    async with serve_endpoint() as endpoint:
        with pytest.raises(ExceptionGroup) as caught:
            async with endpoint.open_rollout(fail) as rollout:
                try:
                    await ask(rollout)
                    await trio.sleep_forever()
                finally:
                    raise KeyError("body")
    assert {type(exc) for exc in caught.value.exceptions} == {ValueError, KeyError}


async def test_a_recorder_that_fails_fails_the_exchange_and_tells_who_answers() -> None:
    class Full:
        async def record(self, turn: object) -> None:
            raise OSError(28, "no space left on device")

        async def seal(self, trace: object) -> None:
            pass

        async def aclose(self) -> None:
            pass

    replies = []
    async with serve_endpoint(recorder=Full()) as endpoint:
        with pytest.raises(OSError, match="no space"):
            async with endpoint.open_rollout(echo) as rollout:
                with trio.CancelScope(shield=True):
                    replies.append(await ask(rollout))
    assert replies[0].status_code == 500
    assert rollout.trace[0].outcome == "failed"


@pytest.mark.parametrize("name", ["a/b", "", "ä", "x" * 200, " "])
async def test_an_id_that_cannot_stand_in_a_url_is_a_valueerror(name: str) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(ValueError, match="id"):
            endpoint.open_rollout(id=name)


async def test_two_open_rollouts_cannot_have_one_id() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(id="mine") as rollout:
        assert rollout.id == "mine"
        with pytest.raises(ValueError, match="open already"):
            async with endpoint.open_rollout(id="mine"):
                raise AssertionError
        assert endpoint._registry.authenticate(rollout.api_key, "mine") is rollout._core


async def test_an_endpoint_that_stops_ends_rollouts_that_others_hold_open() -> None:
    replies: list[httpx2.Response] = []
    ended = trio.Event()

    async def agent(rollout: Rollout) -> None:
        replies.append(await ask(rollout))

    async with trio.open_nursery() as nursery:

        async def hold(endpoint: object, task_status: trio.TaskStatus[Rollout]) -> None:
            async with endpoint.open_rollout() as rollout:  # type: ignore[attr-defined]
                task_status.started(rollout)
                async for _ in rollout:
                    pass
                ended.set()

        async with serve_endpoint() as endpoint:
            rollout = await nursery.start(hold, endpoint)
            nursery.start_soon(agent, rollout)
            while not rollout._core.calls.open:
                await trio.sleep(0.005)
        await ended.wait()
    assert replies[0].status_code == 503
    assert "shutting down" in replies[0].text


async def test_an_exchange_is_there_as_long_as_it_is_open_though_its_program_holds_it_weakly_alone() -> None:
    """By its id, say, for whoever is to approve it; and it is no other each time it is looked at."""
    waiting: weakref.WeakValueDictionary[str, Exchange] = weakref.WeakValueDictionary()

    async def take(rollout: Rollout) -> None:
        async for exchange in rollout:
            waiting[exchange.id] = exchange
            del exchange

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, rollout)
            nursery.start_soon(ask, rollout)
            while not rollout.calls:
                await trio.sleep(0.005)
            await trio.testing.wait_all_tasks_blocked(0.05)
            gc.collect()
            (exchange,) = waiting.values()
            await exchange.respond("yes")
            del exchange
            await rollout.stop("enough")
        assert not waiting, "and no longer, without a look for cycles"


@pytest.mark.timeout(240)
async def test_a_thousand_calls_wait_at_once_and_each_gets_its_own_answer() -> None:
    waiting: list[Exchange] = []
    wrong: list[str] = []

    async def agent(rollout: Rollout, port: int, number: int) -> None:
        async with connected(port) as stream:
            await stream.send_all(raw_request(rollout, json.dumps(ask_body(f"call {number}.")).encode()))
            answer = bytearray()
            while not answer.endswith(b"}"):
                answer += await stream.receive_some()
        if f'"call {number}."'.encode() not in answer:
            wrong.append(answer.decode())

    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(agent, rollout, endpoint.port, number)
            while len(waiting) < 1000:
                waiting.append(await anext(aiter(rollout)))
            for exchange in waiting:
                nursery.start_soon(echo, exchange)
    assert wrong == []
    assert len(rollout.trace) == 1000


async def test_an_answer_of_every_kind_can_be_given() -> None:
    answers = ["text", Text("text"), ToolCall.of("t"), Response.of("text", stop_reason="max_tokens")]

    async def next_one(exchange: Exchange) -> None:
        await exchange.respond(answers[len(rollout.trace)])

    async with serve_endpoint() as endpoint, endpoint.open_rollout(next_one) as rollout:
        reasons = [(await ask(rollout, str(n))).json()["choices"][0]["finish_reason"] for n in range(4)]
    assert reasons == ["stop", "stop", "tool_calls", "length"]


async def test_an_exchange_that_is_being_streamed_takes_no_other_answer_and_no_second_stream() -> None:
    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("the ")
            with pytest.raises(AlreadySettled, match="is being answered by a stream"):
                await exchange.respond("another")
            with pytest.raises(AlreadySettled, match="is being answered by a stream"):
                async with exchange.open_stream():
                    pytest.fail("a second stream was opened")
            await stream.send("first")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        said = (await ask(rollout)).json()["choices"][0]["message"]["content"]
    assert said == "the first"


async def test_there_are_two_ways_to_reach_a_rollout_and_another_is_a_valueerror() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        with pytest.raises(ValueError, match="reach must be 'local' or 'public', not 'far'"):
            rollout.base_url("openai_chat", reach=cast(Any, "far"))
