"""An upstream that is paused while the weights of its server change."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triocept import (
    Exchange,
    Message,
    Request,
    Response,
    Rollout,
    Text,
    Upstream,
    UpstreamError,
    open_upstream,
    serve_endpoint,
)
from triocept._upstream import pausing, sessions
from triocept.traces import JSONLRecorder, Turn, read_traces

from .conftest import ask_roughly, staged
from .engines import OPENAPI, Engine, serve_engine
from .provider import (
    CHAT,
    END,
    MESSAGES,
    RESPONSES,
    USAGE,
    Asked,
    body_of,
    chunk,
    head,
    path_of,
    says,
    serve_provider,
    whole,
    wire_stream,
    wire_whole,
)

ROLLOUTS = 32
KINDS = [*OPENAPI, "llama_cpp"]
CAN_KEEP = ("vllm", "sglang")
REFUSED = whole(b'{"error": "no"}', 500)


class Agents:
    """Agents of many rollouts on one upstream; each makes one call."""

    def __init__(self, engine: Engine, upstream: Upstream, endpoint: Any, nursery: trio.Nursery) -> None:
        self.engine, self.upstream = engine, upstream
        self._endpoint, self._nursery = endpoint, nursery
        self.rollouts: dict[str, Rollout] = {}
        self.answers: dict[str, str] = {}
        self.arrived = 0

    async def answer(self, exchange: Exchange) -> None:
        self.arrived += 1
        await self.upstream(exchange)

    async def call(self, name: str, *, stream: bool, dialect: str = CHAT) -> None:
        """Make the call of one rollout, and read its answer."""
        async with self._endpoint.open_rollout(self.answer, id=name) as rollout:
            self.rollouts[name] = rollout
            body = body_of(dialect, stream=stream, messages=[{"role": "user", "content": name}])
            url = rollout.base_url(dialect) + path_of(dialect, stream=stream)
            async with httpx2.AsyncClient(timeout=None, verify=False) as client:
                key = {"authorization": f"Bearer {rollout.api_key}"}
                got = await client.post(url, json=body, headers=key)
            assert got.status_code == 200, got.text
            if stream:
                lines = [line.removeprefix("data: ") for line in got.text.splitlines() if line]
                assert lines.pop() == "[DONE]"
                choices = [json.loads(line)["choices"] for line in lines]
                self.answers[name] = "".join(
                    each[0]["delta"].get("content") or "" for each in choices if each
                )
            else:
                self.answers[name] = got.json()["choices"][0]["message"]["content"]

    def begin(self, first: int, last: int) -> None:
        """Begin the calls of these rollouts; every second one is a stream."""
        for number in range(first, last):
            self._nursery.start_soon(self._call, f"r{number}", bool(number % 2))

    async def _call(self, name: str, stream: bool) -> None:
        await self.call(name, stream=stream)

    def turns(self) -> dict[str, Turn]:
        turns = {name: list(rollout.trace) for name, rollout in self.rollouts.items()}
        assert all(len(each) == 1 for each in turns.values())
        return {name: each[0] for name, each in turns.items()}


@asynccontextmanager
async def agents_of(kind: str, **options: Any) -> AsyncIterator[Agents]:
    """Agents in front of an engine; at the end of the block, their calls have ended."""
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(serve_engine(kind))
        upstream = await stack.enter_async_context(
            open_upstream(engine.url, dialect=CHAT, model="m", **options)
        )
        endpoint = await stack.enter_async_context(serve_endpoint())
        nursery = await stack.enter_async_context(trio.open_nursery())
        yield Agents(engine, upstream, endpoint, nursery)


@pytest.mark.parametrize("mode", ["keep", "wait", "abort"])
@pytest.mark.parametrize("kind", KINDS)
async def test_in_a_change_of_weights_no_call_is_lost_or_made_twice_and_each_turn_names_its_versions(
    kind: str, mode: Any
) -> None:
    half = ROLLOUTS // 2
    is_kept = mode == "keep" and kind in CAN_KEEP
    async with agents_of(kind) as agents:
        engine, upstream = agents.engine, agents.upstream
        upstream.policy_version = "w1"
        agents.begin(0, half)
        await engine.until(lambda: len(engine.generations) == half)
        await wait_all_tasks_blocked()  # each stream has reached its agent

        async def go_on() -> None:  # the pause has begun, and waits for calls in progress
            await wait_all_tasks_blocked()
            (engine.rest_of_streams if mode == "abort" else engine.rest).set()

        async with trio.open_nursery() as nursery:
            if not is_kept:
                nursery.start_soon(go_on)
            async with upstream.paused(mode) as pause:
                assert pause.mode == ("wait" if mode == "keep" and not is_kept else mode)
                assert len(engine.generations) == (half if is_kept else 0)
                begun = list(engine.begun)
                agents.begin(half, ROLLOUTS)
                while agents.arrived < ROLLOUTS:
                    await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked()
                assert engine.begun == begun  # new calls wait
                engine.version = upstream.policy_version = "w2"
                engine.rest.set()
    turns = agents.turns()
    assert len(turns) == len(agents.answers) == ROLLOUTS
    for number in range(ROLLOUTS):
        name = f"r{number}"
        turn, words = turns[name], agents.answers[name].split()
        assert turn.outcome == "answered"
        assert turn.response is not None
        assert turn.response.text == agents.answers[name]
        sampled = [word.rpartition(".")[2] for word in words]
        is_aborted = mode == "abort" and number < half and not number % 2
        if number >= half or is_aborted:
            wanted = ["w2"] * 4
        else:
            wanted = ["w1", "w1", "w2", "w2"] if is_kept else ["w1"] * 4
        assert sampled == wanted
        assert (turn.policy_start, turn.policy_end) == (wanted[0], wanted[-1])
        assert [draft.why for draft in turn.drafts] == ["abort"] * is_aborted
        assert sorted(each for each in engine.begun if each.startswith(f"{name} ")) == [
            *([f"{name} w1"] if number < half else []),
            *([f"{name} w2"] if number >= half or is_aborted else []),
        ]


async def test_an_aborted_answer_is_kept_with_the_turn_and_counts_in_its_usage(tmp_path: Any) -> None:
    file = tmp_path / "traces.jsonl"
    async with serve_engine("vllm") as engine, open_upstream(engine.url, dialect=CHAT, model="m") as upstream:
        async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
            async with trio.open_nursery() as nursery:
                agents = Agents(engine, upstream, endpoint, nursery)
                agents.begin(0, 1)
                await engine.until(lambda: len(engine.generations) == 1)
                await wait_all_tasks_blocked()
                async with upstream.paused("abort"):
                    engine.version = "w2"
                    engine.rest.set()
    live = agents.rollouts["r0"].trace
    (read,) = read_traces(file)
    for trace in (live, read):
        (turn,) = trace
        (draft,) = turn.drafts
        assert draft.response is not None
        assert draft.response.text == "r0.w1 r0.w1 "
        assert draft.error is not None
        assert "aborted" in draft.error.message
        assert (turn.policy_start, turn.policy_end) == ("w2", "w2")  # read from the server's own route
        assert (trace.usage.input_tokens, trace.usage.output_tokens) == (3 + 3, 2 + 4)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_another_program_aborts_is_requested_again(stream: bool) -> None:
    """Of a stream, before it has begun for its agent."""
    aborted = 0

    async def answer(asked: Asked, stream_to: trio.SocketStream) -> None:
        nonlocal aborted
        aborted += 1
        body = whole_chat("abort" if aborted < 3 else "stop")
        await stream_to.send_all(whole(body))

    async with staged(answer, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=stream)
        assert answered.status_code == 200
        assert b"hello" in answered.content
        (turn,) = stage.rollout.trace
        assert [draft.response.text for draft in turn.drafts if draft.response] == ["hello"] * 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
async def test_an_answer_that_vllm_aborts_in_another_dialect_is_requested_again(
    dialect: str, stream: bool
) -> None:
    complete = [head(), *map(chunk, wire_stream(dialect)), END] if stream else [whole(wire_whole(dialect))]
    answers = [aborted_by_vllm(dialect, "" if stream else "Hello", stream=stream), b"".join(complete)]

    async def answer(asked: Asked, stream_to: trio.SocketStream) -> None:
        await stream_to.send_all(answers.pop(0))

    async with staged(answer, dialect) as stage:
        answered = await stage.ask(dialect, stream=stream)
        (turn,) = stage.rollout.trace
    assert answered.status_code == 200
    assert turn.response is not None
    assert turn.response.text == "Hello, world."
    assert [draft.why for draft in turn.drafts] == ["abort"]


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
async def test_a_stream_that_vllm_aborts_after_a_part_breaks_visibly_in_each_dialect(dialect: str) -> None:
    async with staged(says(aborted_by_vllm(dialect, "Hello", stream=True)), dialect) as stage:
        told, _ = await ask_roughly(stage, dialect)
        (turn,) = stage.rollout.trace
    assert b"Hel" in told
    assert b"aborted its answer" in told
    assert b"service unavailable" in told, "without these words, pi does not send the call again"
    assert turn.outcome == "refused"
    assert len(stage.provider.asked) == 1


async def test_an_answer_of_another_server_without_a_stop_reason_is_an_error_at_once() -> None:
    document = json.loads(wire_whole(MESSAGES))
    del document["stop_reason"]
    async with staged(says(whole(json.dumps(document).encode())), MESSAGES) as stage:
        answered = await stage.ask(MESSAGES)
    assert answered.status_code == 502
    assert "is missing, or unknown to Messages" in answered.text
    assert len(stage.provider.asked) == 1


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES])
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_a_call_of_a_dialect_without_aborts_is_cancelled_before_the_server_is_paused(
    kind: str, dialect: str
) -> None:
    """Else a part of an answer would count as the whole."""
    arrived, order = trio.Event(), list[str]()
    document = wire_whole(dialect)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.target.endswith(("/messages", "/responses")):
            order.append("call")
            if not arrived.is_set():
                arrived.set()
                assert not await stream.receive_some()  # it is cancelled
                order.append("end")
                return
            await stream.send_all(whole(document))
        elif asked.target == "/openapi.json":
            await stream.send_all(whole(json.dumps(OPENAPI[kind]).encode()))
        else:
            order.append(asked.target.partition("?")[0])
            await stream.send_all(whole(b"{}"))

    async with staged(answer, dialect) as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.ask, dialect)
        await arrived.wait()
        async with stage.upstream.paused("abort"):
            order.append("body")
    assert [each for each in order if each not in ("/weight_info", "/model_info")] == [
        "call",
        "end",
        "/pause" if kind == "vllm" else "/pause_generation",
        "body",
        "/resume" if kind == "vllm" else "/continue_generation",
        "call",
    ]
    (turn,) = stage.rollout.trace
    assert turn.outcome == "answered"


async def test_calls_are_sent_until_the_routes_of_the_server_are_known() -> None:
    answered = trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.target == "/openapi.json":
            await answered.wait()
            await stream.send_all(whole(json.dumps(OPENAPI["vllm"]).encode()))
        else:
            await stream.send_all(whole(whole_chat("stop") if "chat" in asked.target else b"{}"))

    async with staged(answer, CHAT) as stage, trio.open_nursery() as nursery:

        async def ask() -> None:
            await wait_all_tasks_blocked()
            assert (await stage.ask(CHAT)).status_code == 200
            answered.set()

        nursery.start_soon(ask)
        with trio.fail_after(30):
            async with stage.upstream.paused():
                assert answered.is_set()


def aborted_by_vllm(dialect: str, text: str, *, stream: bool) -> bytes:
    """An aborted answer as vLLM sends it; in Responses, of a model in the harmony format.

    Sources: entrypoints/anthropic/serving.py, entrypoints/openai/responses/serving.py.
    """
    content = (Text(text),) if text else ()
    response = Response(content, id="chatcmpl-1", model="m", dialect=dialect, usage=USAGE)
    if not stream:
        document = json.loads(wire_whole(dialect, response))
        if dialect == MESSAGES:
            del document["stop_reason"]
        else:
            document["status"] = "cancelled"
        return whole(json.dumps(document).encode())
    pieces = wire_stream(dialect, response)
    if dialect == MESSAGES:
        pieces[-1] = pieces[-1].replace(b'"stop_reason":"end_turn"', b'"stop_reason":null')
    else:
        before, _, data = pieces[-1].rpartition(b"data: ")
        event = json.loads(data)
        event["response"]["status"] = "cancelled"
        pieces[-1] = before + b"data: " + json.dumps(event).encode() + b"\n\n"
    return b"".join([head(), *map(chunk, pieces), END])


def whole_chat(reason: str) -> bytes:
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps({**document, "choices": [choice], "usage": usage}).encode()


async def test_a_server_that_aborts_every_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "FIRST_PAUSE", 0.001)
    async with staged(says(whole(whole_chat("abort"))), CHAT) as stage:
        answered = await stage.ask(CHAT)
        assert answered.status_code == 503
        assert "aborted its answer" in answered.text
        assert len(stage.provider.asked) == 1 + pausing.MAX_ABORTED
        (turn,) = stage.rollout.trace
        assert turn.outcome == "refused"


@pytest.mark.parametrize("stream", [False, True])
async def test_aborts_for_pauses_of_the_upstream_itself_never_end_a_call(stream: bool) -> None:
    async with agents_of("vllm") as agents:
        engine, upstream = agents.engine, agents.upstream
        engine.before_tokens = stream  # of a stream, nothing has reached the agent
        agents.begin(int(stream), int(stream) + 1)
        for number in range(pausing.MAX_ABORTED + 2):
            await engine.until(lambda number=number: len(engine.begun) == number + 1)
            await wait_all_tasks_blocked()
            async with upstream.paused("abort"):
                assert not engine.generations
        await engine.until(lambda: len(engine.begun) == pausing.MAX_ABORTED + 3)
        engine.rest.set()
    (turn,) = agents.turns().values()
    assert turn.outcome == "answered"
    assert len(turn.drafts) == pausing.MAX_ABORTED + 2


async def test_a_stream_that_is_aborted_after_its_agent_has_a_part_breaks_visibly() -> None:
    """If the server is not known to continue a text."""
    async with serve_engine("llama_cpp") as engine:
        async with staged(engine.answer, CHAT) as stage, trio.open_nursery() as nursery:

            async def abort() -> None:
                await engine.until(lambda: len(engine.generations) == 1)
                await wait_all_tasks_blocked()
                engine.generations = dict.fromkeys(engine.generations, True)
                engine.change()

            nursery.start_soon(abort)
            told, _ = await ask_roughly(stage, CHAT)
        (turn,) = stage.rollout.trace
    assert b"aborted its answer" in told
    assert turn.outcome == "refused"
    assert turn.response is not None
    assert "w1" in turn.response.text, "the aborted part stays in the trace"
    assert engine.begun == ["hi w1"]


@pytest.mark.parametrize("kind", ["vllm", "llama_cpp"])
async def test_the_programs_own_calls_wait_and_are_sent_again_too(kind: str) -> None:
    request = Request(dialect=CHAT, model="m", messages=(Message("user", (Text("own"),)),))
    texts: list[str] = []
    async with serve_engine(kind) as engine, open_upstream(engine.url, dialect=CHAT) as upstream:

        async def fetch() -> None:
            texts.append((await upstream.fetch(request)).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            await engine.until(lambda: len(engine.generations) == 1)
            await wait_all_tasks_blocked()
            async with upstream.paused("abort"):
                engine.version = "w2"
                engine.rest.set()
                nursery.start_soon(fetch)
                await wait_all_tasks_blocked()
                assert len(engine.begun) == 1
    assert texts == ["own.w2 " * 4] * 2


async def test_a_call_that_the_server_aborts_and_never_answers_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pausing, "ABORT_SECONDS", 0.1)
    request = Request(dialect=CHAT, model="m", messages=(Message("user", (Text("hi"),)),))
    asked, left = trio.Event(), trio.Event()
    texts: list[str] = []

    async def answer(call: Asked, stream: trio.SocketStream) -> None:
        if "/chat/" not in call.target:
            document = OPENAPI["vllm"] if call.target == "/openapi.json" else {}
            await stream.send_all(whole(json.dumps(document).encode()))
        elif not asked.is_set():
            asked.set()
            assert not await stream.receive_some()
            left.set()
        else:
            await stream.send_all(whole(whole_chat("stop")))

    async with serve_provider(answer) as provider, open_upstream(provider.url, dialect=CHAT) as upstream:

        async def fetch() -> None:
            texts.append((await upstream.fetch(request)).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            await asked.wait()
            async with upstream.paused("abort"):
                await left.wait()
                assert not texts
    assert len(texts) == 1


async def test_the_time_limits_of_calls_stand_still_while_the_upstream_is_paused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    patience = pausing.Patience(total=10, idle=5)
    with patience.scope:
        with patience.trying():
            patience.hold()
            await trio.sleep(1000)
            patience.release()
            await trio.sleep(4)
        patience.hold()
        patience.pause(True)  # its agent is slow meanwhile
        patience.pause(False)
        await trio.sleep(1000)
        patience.release()
        await trio.sleep(4)
        patience.reset()
        await trio.sleep_forever()
    assert patience.scope.cancelled_caught
    assert trio.current_time() == pytest.approx(2000 + 10)
    assert "took longer than the limit of 10 s" in str(patience.error)


# What goes wrong


async def test_a_pause_that_the_server_refuses_raises_and_resumes() -> None:
    async with agents_of("vllm") as agents:
        agents.engine.fail["/pause"] = REFUSED
        with pytest.raises(UpstreamError, match=r"POST /pause\?mode=keep"):
            async with agents.upstream.paused():
                pytest.fail("the body begins")
        assert agents.engine.routes[-1] == "/resume"
        agents.engine.rest.set()
        agents.begin(0, 1)
    assert agents.answers["r0"] == "r0.w1 " * 4


async def test_a_resume_with_an_unreadable_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "RESUME_PAUSE", 0.01)
    async with agents_of("vllm") as agents:
        async with agents.upstream.paused():
            agents.engine.fail_once["/resume"] = whole(b"{broken")
        assert agents.engine.routes.count("/resume") == 2
        assert not agents.engine.paused


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_an_upstream_that_is_closed_while_a_pause_begins_resumes_its_server(is_cancelled: bool) -> None:
    raised: list[BaseException] = []
    async with serve_engine("vllm") as engine, trio.open_nursery() as nursery:
        engine.slow_pause = trio.Event()

        async def pause() -> None:
            try:
                async with upstream.paused():
                    pytest.fail("the body begins")
            except trio.ClosedResourceError as exc:
                raised.append(exc)

        with trio.CancelScope() as scope:
            async with open_upstream(engine.url, dialect=CHAT) as upstream:
                nursery.start_soon(pause)
                await engine.until(lambda: engine.paused)
                if is_cancelled:
                    scope.cancel()
        assert not engine.paused
        assert engine.routes[-1] == "/resume"
        await wait_all_tasks_blocked()
    assert "closed before its pause began" in str(raised[0])


async def test_a_server_that_cannot_be_resumed_is_an_error_and_calls_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pausing, "RESUME_SECONDS", 1.0)
    monkeypatch.setattr(pausing, "RESUME_PAUSE", 0.01)
    async with agents_of("sglang") as agents:
        agents.engine.fail["/continue_generation"] = REFUSED
        with pytest.raises(UpstreamError, match="not resumed within") as raised:
            async with agents.upstream.paused():
                pass
        assert raised.value.status == 504
        assert agents.engine.routes.count("/continue_generation") > 1
        agents.engine.paused = False
        agents.engine.rest.set()
        agents.begin(0, 1)
    assert agents.answers["r0"] == "r0.w1 " * 4


async def test_the_error_of_the_body_and_that_of_the_resume_are_both_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pausing, "RESUME_SECONDS", 0.05)
    async with agents_of("vllm") as agents:
        agents.engine.fail["/resume"] = REFUSED
        with pytest.raises(ExceptionGroup) as raised:
            async with agents.upstream.paused():
                raise KeyError("mine")
        assert {type(each) for each in raised.value.exceptions} == {KeyError, UpstreamError}


async def test_a_second_pause_is_refused_and_leaves_the_first() -> None:
    async with agents_of("vllm") as agents, agents.upstream.paused():
        with pytest.raises(RuntimeError, match="paused already"):
            async with agents.upstream.paused():
                pytest.fail("the body begins")
        assert "/resume" not in agents.engine.routes
    with pytest.raises(trio.ClosedResourceError):
        agents.upstream.paused()


async def test_a_mode_that_is_none_is_refused() -> None:
    async with agents_of("llama_cpp") as agents:
        with pytest.raises(ValueError, match="'keep', 'wait' or 'abort', not 'drain'"):
            async with agents.upstream.paused("drain"):  # type: ignore[arg-type]
                pytest.fail("the body begins")


@pytest.mark.parametrize("route", ["/openapi.json", "/weight_info", "/pause", "", "/resume"])
async def test_a_cancellation_at_each_route_resumes(route: str) -> None:
    """An empty one: in the body."""
    async with agents_of("vllm") as agents:
        engine, asked = agents.engine, trio.Event()
        own = engine.answer

        async def answer(got: Asked, stream: trio.SocketStream) -> None:
            if not asked.is_set() and route and got.target.startswith(route):
                asked.set()
                scope.cancel()
                await wait_all_tasks_blocked()
            await own(got, stream)

        engine.answer = answer  # type: ignore[method-assign]
        async with serve_provider(lambda got, stream: engine.answer(got, stream)) as provider:
            async with open_upstream(f"{provider.url}/v1", dialect=CHAT) as upstream:
                with trio.CancelScope() as scope:
                    async with upstream.paused():
                        if not route:
                            scope.cancel()
                            await trio.sleep_forever()
                assert asked.is_set() == bool(route)
                assert not engine.paused
                assert engine.routes[-1] == "/resume"
                engine.rest.set()
                request = Request(dialect=CHAT, model="m", messages=(Message("user", (Text("own"),)),))
                assert (await upstream.fetch(request)).text == "own.w1 " * 4


# Sessions


async def test_each_call_names_its_rollout_and_the_end_of_a_rollout_is_reported() -> None:
    options = {"finish_session": "/finish_session?session_id={id}"}
    async with agents_of("vllm", **options) as agents:
        agents.engine.rest.set()
        agents.begin(0, 2)
    asked = [(each.target, each.headers.get("x-session-id")) for each in agents.engine.provider.asked]
    calls = [(target, name) for target, name in asked if "completions" in target]
    assert sorted(calls) == [("/v1/chat/completions", "r0"), ("/v1/chat/completions", "r1")]
    ends = [target for target, _ in asked if "finish" in target]
    assert sorted(ends) == [f"/finish_session?session_id={name}" for name in ("r0", "r1")]


@pytest.mark.parametrize(("header", "sent"), [("X-SMG-Routing-Key", "r0"), (None, None)])
async def test_the_header_of_a_session_has_the_name_that_was_given(header: Any, sent: Any) -> None:
    async with agents_of("vllm", session_header=header) as agents:
        agents.engine.rest.set()
        agents.begin(0, 1)
    (asked,) = agents.engine.provider.asked
    assert asked.headers.get("x-smg-routing-key") == sent
    assert "x-session-id" not in asked.headers


async def test_a_report_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(sessions, "FINISH_SECONDS", 0.05)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if "finish" in asked.target:
            await trio.sleep_forever()
        await stream.send_all(whole(whole_chat("stop")))

    async with staged(answer, CHAT, finish_session="/finish/{id}") as stage:
        await stage.ask(CHAT)
        name = stage.rollout.id
    assert f"the end of rollout {name} could not be reported" in caplog.text


@pytest.mark.parametrize("options", [{"session_header": "a b"}, {"finish_session": "finish"}])
async def test_a_session_that_cannot_be_sent_is_refused_when_the_upstream_opens(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        async with open_upstream("http://x", dialect=CHAT, **options):
            pytest.fail("it opens")


@pytest.mark.parametrize("version", [7, b"x", ["a"]])
async def test_a_version_that_no_record_can_hold_is_refused_where_it_is_set(version: Any) -> None:
    async with open_upstream("http://x", dialect=CHAT) as upstream:
        upstream.policy_version = "1"
        with pytest.raises(
            TypeError, match=r"^policy_version must be a str or None, not .+; for a step, pass str"
        ):
            upstream.policy_version = version
        assert upstream.policy_version == "1"
