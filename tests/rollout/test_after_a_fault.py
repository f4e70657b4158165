"""What becomes of model calls once a handler has failed and its rollout's body has not ended yet, which may wait for
the very agent that makes them: nobody waits for an answer that will not come."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import anthropic
import httpx2
import openai
import pytest
import trio
import trio.testing

from tests.asking import PATHS, ask, ask_body, bearer, connected, document, raw_request, read_to_end, url_of
from tests.unserved import opened, outcome
from triocept import Endpoint, Exchange, Limits, Refusal, Rollout, Trace, Turn, serve_endpoint
from triocept._rollout.rollout import report_fault
from triocept._util.failures import leaves
from triocept.traces import Entry, Intent

every_way = pytest.mark.usefixtures("every_way")
SHIELD = partial(trio.CancelScope, shield=True)


class Reply(NamedTuple):
    status: int
    should_retry: str | None
    message: str


REFUSED = Reply(500, "false", "the program that answers this call failed (KeyError)")


def reply_of(response: httpx2.Response) -> Reply:
    message: str = response.json()["error"]["message"]
    return Reply(response.status_code, response.headers.get("x-should-retry"), message)


async def fails(exchange: Exchange) -> None:
    """It fails at "fail", and answers anything else."""
    if exchange.request.messages[-1].text == "fail":
        raise KeyError("boom")
    await exchange.respond("ok")


# Agents that ask "fail", and then something else: each after the other was answered

ASKED = ("fail", "later", "and later")
Agent = Callable[[Rollout], Awaitable[list[Reply]]]


async def in_a_task(rollout: Rollout) -> list[Reply]:
    return [reply_of(await ask(rollout, text)) for text in ASKED]


async def in_a_thread(rollout: Rollout) -> list[Reply]:
    url, headers = url_of(rollout), bearer(rollout)

    def run() -> list[Reply]:
        return [
            reply_of(httpx2.post(url, json=ask_body(text), headers=headers, timeout=20)) for text in ASKED
        ]

    return await trio.to_thread.run_sync(run)


PROGRAM = """
import json, sys, urllib.error, urllib.request
url, headers, bodies = json.loads(sys.argv[1])
for body in bodies:
    call = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        urllib.request.urlopen(call, timeout=20)
    except urllib.error.HTTPError as exc:
        said = json.loads(exc.read())["error"]["message"]
        print(json.dumps([exc.code, exc.headers["x-should-retry"], said]), flush=True)
"""


async def in_a_process(rollout: Rollout) -> list[Reply]:
    headers = bearer(rollout) | {"content-type": "application/json"}
    order = json.dumps([url_of(rollout), headers, [ask_body(text) for text in ASKED]])
    result = await rollout.run_agent([sys.executable, "-c", PROGRAM, order])
    return [Reply(*json.loads(line)) for line in result.stdout.splitlines()]


AGENTS: dict[str, Agent] = {"task": in_a_task, "thread": in_a_thread, "process": in_a_process}


# Bodies that do not end until their agent has

Body = Callable[[Rollout, Agent], Awaitable[list[Reply]]]


async def waits(rollout: Rollout, agent: Agent) -> list[Reply]:
    replies: list[Reply] = []
    with SHIELD():
        replies += await agent(rollout)
    return replies


async def loops(rollout: Rollout, agent: Agent) -> list[Reply]:
    """Looks again and again whether its agent, in a sibling task, has ended."""
    replies: list[Reply] = []

    async def run() -> None:
        with SHIELD():
            replies.extend(await agent(rollout))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with SHIELD():
            while len(replies) < len(ASKED):
                await trio.lowlevel.checkpoint()
    return replies


async def is_asleep(rollout: Rollout, agent: Agent) -> list[Reply]:
    """Sleeps, while a sibling task is on its way out with an agent."""
    replies: list[Reply] = []

    async def run() -> None:
        with SHIELD():
            replies.extend(await agent(rollout))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.sleep_forever()
    finally:
        seen.extend(replies)
    raise AssertionError("it is cancelled")


async def raises(rollout: Rollout, agent: Agent) -> list[Reply]:
    seen.extend(await waits(rollout, agent))
    raise RuntimeError("the body's own")


BODIES: dict[str, Body] = {"waits": waits, "loops": loops, "is asleep": is_asleep, "raises": raises}
seen: list[Reply] = []


# Whoever answers


@asynccontextmanager
async def answered_by(endpoint: Endpoint, form: str) -> AsyncIterator[Rollout]:
    async with AsyncExitStack() as stack:
        match form:
            case "handler":
                yield await stack.enter_async_context(endpoint.open_rollout(fails))
            case "one at a time":
                yield await stack.enter_async_context(endpoint.open_rollout(fails, concurrency=1))
            case "handler of a child":
                parent = await stack.enter_async_context(endpoint.open_rollout())
                yield await stack.enter_async_context(parent.open_child(fails))
            case _:
                rollout = await stack.enter_async_context(endpoint.open_rollout())
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(partial(rollout.serve, fails, concurrency=1 if "one at" in form else None))
                yield rollout


FORMS = ("handler", "one at a time", "handler of a child", "serve", "serve, one at a time")


@pytest.mark.parametrize(("form", "place", "body"), list(product(FORMS, AGENTS, BODIES)))
async def test_an_agent_that_is_waited_for_in_a_shield_gets_to_its_end(
    form: str, place: str, body: str
) -> None:
    seen.clear()
    async with serve_endpoint() as endpoint:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
            async with answered_by(endpoint, form) as rollout:
                seen.extend(await BODIES[body](rollout, AGENTS[place]))
    assert seen == [REFUSED] * 3
    own = ["RuntimeError"] if body == "raises" else []
    assert sorted(type(error).__name__ for error in leaves(caught.value)) == ["KeyError", *own]
    assert isinstance(caught.value, KeyError) == (not own and "serve" not in form), "bare, as ever"
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused", "refused"]
    errors = [turn.error for turn in rollout.trace]
    assert [error and (error.type, error.status) for error in errors] == [
        ("KeyError", 500),
        ("Refusal", 500),
        ("Refusal", 500),
    ]
    assert rollout.trace.sealed


@every_way
async def test_an_agent_elsewhere_is_answered_whenever_the_body_ends() -> None:
    """One that nobody waits for: its later call meets a rollout whose body unwinds, or one that has ended."""
    statuses = []

    async def agent(rollout: Rollout) -> None:
        statuses.extend([(await ask(rollout, text)).status_code for text in ASKED])

    async with serve_endpoint() as endpoint, trio.open_nursery() as elsewhere:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(fails) as rollout:
                elsewhere.start_soon(agent, rollout)
                await trio.sleep_forever()
    assert statuses[0] == 500
    assert {*statuses[1:]} <= {500, 401}


@every_way
@pytest.mark.parametrize("dialect", PATHS)
async def test_a_later_call_hears_what_the_first_did_in_its_own_dialect(dialect: str) -> None:
    def post(url: str, headers: dict[str, str]) -> list[tuple[int, str | None, Any]]:
        found = []
        for text in ("fail", "later"):
            reply = httpx2.post(url, json=document(dialect, text), headers=headers, timeout=20)
            said = {name: value for name, value in reply.json().items() if name != "request_id"}
            found.append((reply.status_code, reply.headers.get("x-should-retry"), said))
        return found

    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(fails) as rollout:
                url = endpoint.url + f"/rollout/{rollout.id}" + PATHS[dialect]
                first, later = await trio.to_thread.run_sync(post, url, bearer(rollout))
    assert first == later
    assert later[:2] == (500, "false")


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages"])
async def test_the_sdks_do_not_try_again(dialect: str) -> None:
    def run() -> list[str]:
        ends = []
        with rollout.client(dialect, sync=True) as client:
            for text in ("fail", "later"):
                try:
                    match dialect:
                        case "openai_chat":
                            client.chat.completions.create(
                                model="m", messages=[{"role": "user", "content": text}]
                            )
                        case "openai_responses":
                            client.responses.create(model="m", input=text)
                        case _:
                            said = [{"role": "user", "content": text}]
                            client.messages.create(model="m", max_tokens=9, messages=said)
                except (openai.InternalServerError, anthropic.InternalServerError) as exc:
                    ends.append(f"{exc.status_code} {type(exc).__name__}")
        return ends

    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(fails) as rollout:
                ends = await trio.to_thread.run_sync(run)
    assert ends == ["500 InternalServerError"] * 2
    assert [(turn.outcome, turn.attempt) for turn in rollout.trace] == [("failed", 1), ("refused", 1)]


# What is on its way at the moment of the fault


async def test_what_waits_for_its_turn_is_refused_at_once() -> None:
    begun, go, said, asked = trio.Event(), trio.Event(), list[Reply](), list[str]()

    async def one(exchange: Exchange) -> None:
        asked.append(exchange.request.messages[-1].text)
        begun.set()
        await go.wait()
        raise KeyError("boom")

    async def call(text: str) -> None:
        said.append(reply_of(await ask(rollout, text)))

    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(one, concurrency=1) as rollout:
                with SHIELD():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(call, "first")
                        await begun.wait()
                        nursery.start_soon(call, "second")
                        nursery.start_soon(call, "third")
                        while len(rollout.calls) < 3:
                            await trio.lowlevel.checkpoint()
                        go.set()
    assert said == [REFUSED] * 3
    assert asked == ["first"]
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused", "refused"]


class Working:
    """A handler that is at work on whatever it is asked, in a way that no cancellation ends, until it is let go; but
    for "fail", at which it fails. Then it does what it was told."""

    def __init__(self, then: Callable[[Exchange], Awaitable[None]]) -> None:
        self.begun, self.go, self.cancelled = trio.Event(), trio.Event(), False
        self.then = then

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.messages[-1].text == "fail":
            raise KeyError("boom")
        with SHIELD():
            self.begun.set()
            await self.go.wait()
            await self.then(exchange)
        self.cancelled = trio.current_effective_deadline() == -float("inf")


async def respond(exchange: Exchange) -> None:
    await exchange.respond("nobody gets this")


async def refuse(exchange: Exchange) -> None:
    await exchange.refuse(429, "nor this")


async def stream(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("nor this")


async def raise_refusal(exchange: Exchange) -> None:
    raise Refusal(429, "nor this")


async def raise_another(exchange: Exchange) -> None:
    raise RuntimeError("its own")


async def nothing(exchange: Exchange) -> None:
    pass


@pytest.mark.parametrize("form", ["handler", "serve"])
@pytest.mark.parametrize("then", [respond, refuse, stream, raise_refusal, raise_another, nothing])
async def test_what_another_handler_is_at_work_on_is_refused_at_once_and_what_it_does_then_is_no_fault(
    then: Callable[[Exchange], Awaitable[None]], form: str
) -> None:
    handler, said = Working(then), []
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(handler if form == "handler" else None) as rollout, trio.open_nursery() as services:
            if form == "serve":
                services.start_soon(rollout.serve, handler)
            with SHIELD():
                async with trio.open_nursery() as nursery:

                    async def call() -> None:
                        said.append(await outcome(rollout, "work"))

                    nursery.start_soon(call)
                    await handler.begun.wait()
                    assert await outcome(rollout, "fail") == "500"
                assert said == ["500"], "its agent did not wait for the handler"
                handler.go.set()
    own = ["RuntimeError"] if then is raise_another else []
    assert sorted(type(error).__name__ for error in leaves(caught.value)) == ["KeyError", *own]
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused"]
    assert handler.cancelled or own or then is raise_refusal


@every_way
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "openai_responses"])
async def test_a_stream_of_another_handler_breaks_with_its_dialects_error(dialect: str) -> None:
    async def handle(exchange: Exchange) -> None:
        if exchange.request.messages[-1].text == "fail":
            raise KeyError("boom")
        async with exchange.open_stream() as stream:
            await stream.send("half")
            begun.set()
            await trio.sleep_forever()

    begun = trio.Event()
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(handle) as rollout:
                with SHIELD():
                    body = json.dumps(document(dialect, "work", stream=True)).encode()
                    path = f"/rollout/{rollout.id}{PATHS[dialect]}"
                    await stream.send_all(raw_request(rollout, body, path=path))
                    await begun.wait()
                    assert (await ask(rollout, "fail")).status_code == 500
                    data = await read_to_end(stream)
    assert b"half" in data
    assert b"the program that answers this call failed (KeyError)" in data
    assert not any(end in data for end in (b"[DONE]", b"message_stop", b"response.completed"))
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused"]


class Slow:
    """A recorder that takes its time for the first turn."""

    def __init__(self) -> None:
        self.recording, self.go = trio.Event(), trio.Event()

    async def record(self, turn: Turn) -> None:
        self.recording.set()
        await self.go.wait()

    async def seal(self, trace: Trace) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_the_handler_is_not_called_any_more_while_its_fault_is_being_recorded() -> None:
    asked = []

    async def handle(exchange: Exchange) -> None:
        asked.append(exchange.request.messages[-1].text)
        raise KeyError("boom")

    async def call(text: str) -> None:
        said.append(await outcome(rollout, text))

    recorder, said = Slow(), list[str]()
    with pytest.raises(KeyError, match="boom"):
        async with opened(handle, recorder=recorder) as rollout:
            with SHIELD():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call, "fail")
                    await recorder.recording.wait()
                    nursery.start_soon(call, "later")
                    await trio.testing.wait_all_tasks_blocked()
                    recorder.go.set()
    assert asked == ["fail"]
    assert said == ["500", "500"]
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused"]


class Announced(Slow):
    """A recorder that takes its time for the second call before that is handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def record(self, turn: Turn) -> None:
        pass

    async def record_entry(self, entry: Entry) -> None:
        self.calls += isinstance(entry, Intent)
        if self.calls == 2:
            self.recording.set()
            await self.go.wait()


@pytest.mark.parametrize("form", ["handler", "serve"])
@pytest.mark.parametrize("answers", [False, True])
async def test_what_is_being_recorded_before_it_is_handed_over_is_handed_to_nobody(
    form: str, answers: bool
) -> None:
    async def handle(exchange: Exchange) -> None:
        asked.append(exchange.request.messages[-1].text)
        if answers:
            await exchange.respond("ok")
        begun.set()
        await go.wait()
        failed.set()
        raise KeyError("boom")

    async def call(text: str) -> None:
        said.append(await outcome(rollout, text))

    begun, go, failed = trio.Event(), trio.Event(), trio.Event()
    recorder, asked, said = Announced(), list[str](), list[str]()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(handle if form == "handler" else None, recorder=recorder) as rollout:
            async with trio.open_nursery() as services:
                if form == "serve":
                    services.start_soon(rollout.serve, handle)
                with SHIELD():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(call, "fail")
                        await begun.wait()
                        nursery.start_soon(call, "later")
                        await recorder.recording.wait()
                        go.set()
                        await failed.wait()
                        await trio.testing.wait_all_tasks_blocked()
                        recorder.go.set()
    assert [type(error) for error in leaves(caught.value)] == [KeyError]
    assert asked == ["fail"]
    assert said == ["answered" if answers else "500", "500"]


async def test_what_comes_after_a_fault_counts_for_no_limit_and_is_announced_to_no_recorder() -> None:
    recorder = Announced()
    recorder.go.set()
    with pytest.raises(KeyError, match="boom"):
        async with opened(fails, recorder=recorder, limits=Limits(turns=1)) as rollout:
            with SHIELD():
                assert [await outcome(rollout, text) for text in ASKED] == ["500"] * 3
    assert recorder.calls == 1
    assert rollout.stopped is None


async def test_a_recorder_that_fails_as_well_is_told_and_keeps_nobody_waiting() -> None:
    class Full(Slow):
        async def record(self, turn: Turn) -> None:
            raise OSError(28, "no space left on device")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with opened(fails, recorder=Full()) as rollout:
            with SHIELD():
                assert [await outcome(rollout, text) for text in ASKED] == ["500"] * 3
    assert {type(error) for error in leaves(caught.value)} == {KeyError, OSError}


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("on_fault", ["cancel", "stay"])
async def test_what_ends_programs_leaves_nobody_waiting_either(
    fault: type[BaseException], on_fault: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        raise fault

    with pytest.raises(fault):
        async with opened(handle, on_fault=on_fault) as rollout:
            with SHIELD():
                assert [await outcome(rollout, text) for text in ASKED] == ["500"] * 3


# A service of the body's own, whose caller may go on


async def test_a_service_whose_caller_goes_on_is_followed_by_another() -> None:
    async def again(exchange: Exchange) -> None:
        await exchange.respond("ok")

    async with opened() as rollout, trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with pytest.raises(KeyError, match="boom"):
                await rollout.serve(fails)
            task_status.started()
            await go.wait()
            await rollout.serve(again)

        go = trio.Event()
        nursery.start_soon(partial(nursery.start, serve))
        assert await outcome(rollout, "fail") == "500"
        assert await outcome(rollout, "meanwhile") == "500"
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await outcome(rollout, "later") == "answered"
        await rollout.stop("enough")
    assert [turn.outcome for turn in rollout.trace] == ["failed", "refused", "answered"]


async def test_a_loop_that_follows_a_service_takes_calls_again() -> None:
    async with opened() as rollout, trio.open_nursery() as nursery:

        async def answer() -> None:
            with pytest.raises(KeyError, match="boom"):
                await rollout.serve(fails)
            async for exchange in rollout:
                await exchange.respond("ok")

        nursery.start_soon(answer)
        assert await outcome(rollout, "fail") == "500"
        await trio.testing.wait_all_tasks_blocked()
        assert await outcome(rollout, "later") == "answered"
        await rollout.stop("enough")


async def test_a_service_beside_one_that_fails_goes_on() -> None:
    async def other(exchange: Exchange) -> None:
        await exchange.respond("ok")

    async with opened() as rollout, trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(KeyError, match="boom"):
                await rollout.serve(fails)

        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(rollout.serve, other)
        await trio.testing.wait_all_tasks_blocked()
        assert await outcome(rollout, "fail") == "500"
        await trio.testing.wait_all_tasks_blocked()
        assert await outcome(rollout, "later") == "answered"
        await rollout.stop("enough")


async def test_a_service_that_is_cancelled_leaves_what_comes_to_the_next() -> None:
    async with opened() as rollout, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await rollout.serve(fails)
        said = []

        async def call() -> None:
            said.append(await outcome(rollout, "hi"))

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        assert said == []
        nursery.start_soon(rollout.serve, fails)
        await trio.testing.wait_all_tasks_blocked()
        assert said == ["answered"]
        await rollout.stop("enough")


# A body that answers by itself


async def ask_embedding(rollout: Rollout) -> int:
    """Come upon a fault that is no handler's: of a function that stands for a model."""
    url = rollout.base_url("openai_chat") + "/embeddings"
    async with httpx2.AsyncClient(timeout=None, verify=False) as client:
        reply = await client.post(url, json={"model": "m", "input": "hi"}, headers=bearer(rollout))
    return reply.status_code


async def embed(texts: object) -> list[list[float]]:
    raise KeyError("boom")


@pytest.mark.parametrize("shielded", [False, True])
@pytest.mark.parametrize("of_an_agent", [False, True])
async def test_a_loop_ends_with_its_rollouts_fault_and_leaves_nobody_waiting(
    shielded: bool, of_an_agent: bool
) -> None:
    """Whether the loop itself is cancelled, or goes on behind a shield."""
    taken, replies = trio.Event(), list[Reply]()

    async def loop(rollout: Rollout) -> None:
        with SHIELD() if shielded else trio.CancelScope():
            async with AsyncExitStack() as stack:
                calls: Any = rollout
                if of_an_agent:
                    idle = [sys.executable, "-c", "import sys; sys.stdin.read(); input()"]
                    calls = await stack.enter_async_context(rollout.open_agent(idle))
                async for exchange in calls:
                    taken.set()
                    if shielded:
                        while not exchange.settled:
                            await trio.lowlevel.checkpoint()
                        await exchange.respond("nobody gets this")
                    else:
                        await trio.sleep_forever()

    async def call(rollout: Rollout) -> None:
        replies.append(reply_of(await ask(rollout, "taken")))

    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(embed=embed) as rollout, trio.open_nursery() as nursery:
                nursery.start_soon(loop, rollout)
                with SHIELD():
                    async with trio.open_nursery() as calls:
                        calls.start_soon(call, rollout)
                        await taken.wait()
                        calls.start_soon(call, rollout)
                        assert await ask_embedding(rollout) == 500
                    replies.append(reply_of(await ask(rollout, "later")))
    assert replies == [REFUSED] * 3
    assert [turn.outcome for turn in rollout.trace] == ["refused"] * 3


async def test_a_service_ends_with_its_rollouts_fault_and_leaves_nobody_waiting() -> None:
    handler, said, ended = Working(respond), list[str](), trio.Event()

    async def serve() -> None:
        with SHIELD():
            await rollout.serve(handler)
        ended.set()

    async def call() -> None:
        said.append(await outcome(rollout, "work"))

    with pytest.raises(OSError, match="the recorder's, say"):
        async with opened() as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with SHIELD():
                async with trio.open_nursery() as calls:
                    calls.start_soon(call)
                    await handler.begun.wait()
                    assert report_fault(rollout, OSError("the recorder's, say"))
                said.append(await outcome(rollout, "later"))
                handler.go.set()
                await ended.wait()
    assert said == ["500", "500"]
    assert [turn.outcome for turn in rollout.trace] == ["refused", "refused"]


async def test_a_handler_answers_on_after_a_fault_that_is_not_its_own() -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(fails, embed=embed) as rollout:
                with SHIELD():
                    assert await ask_embedding(rollout) == 500
                    assert (await ask(rollout, "later")).status_code == 200


# What is beside the calls


async def test_children_and_services_go_on_until_the_body_has_ended() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    async def think(rollout: Rollout) -> str:
        return (await rollout.ask("later")).text

    async def call(name: str, **arguments: object) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            url = rollout.service_url(f"tools/{name}")
            return await client.post(url, json={"arguments": arguments}, headers=bearer(rollout))

    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError, match="boom"):
            async with endpoint.open_rollout(fails, tools=[add, think]) as rollout:
                with SHIELD():
                    async with rollout.open_child(fails) as child:
                        assert (await ask(rollout, "fail")).status_code == 500
                        assert (await ask(child, "of a child")).status_code == 200
                        assert (await call("add", a=1, b=2)).status_code == 200
                        assert (await call("think")).status_code == 500, "a tool that asks the model"
                    async with rollout.open_child(fails) as late:
                        assert (await ask(late, "of a late child")).status_code == 200
                    assert rollout.stopped is None


async def test_a_childs_fault_is_its_own() -> None:
    async with opened(fails) as parent:
        with pytest.raises(KeyError, match="boom"):
            async with parent.open_child(fails) as child:
                with SHIELD():
                    assert await outcome(child, "fail") == "500"
                    assert await outcome(child, "later") == "500"
                    assert await outcome(parent, "of the parent") == "answered"
        assert await outcome(parent, "still") == "answered"


async def test_a_rollout_that_is_stopped_after_its_fault_says_so_to_what_comes_then() -> None:
    with pytest.raises(KeyError, match="boom"):
        async with opened(fails) as rollout:
            with SHIELD():
                assert await outcome(rollout, "fail") == "500"
                await rollout.stop("enough")
                assert await outcome(rollout, "later") == "404"
