"""An agent that sends its call again must not make a second turn; an agent that asks the same again must get one.

The cases bear the names of the agents that do it; their headers and bodies are as measured (Claude Code 2.1.197 and
2.1.331, Codex 0.169.0, opencode 1.18.33, openai-python 3.57).
"""

import json
from contextlib import suppress
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import PATHS, bearer, connected, raw_request
from triocept import Exchange, Refusal, Rollout, ToolCall, Trace, Turn, serve_endpoint
from triocept._rollout.calls import KEPT_ANSWERS

pytestmark = pytest.mark.usefixtures("every_way")

CLAUDE = {"x-claude-code-session-id": "s1", "x-stainless-retry-count": "0", "anthropic-version": "2023-06-01"}
CODEX = {"thread-id": "t1", "session-id": "t1"}
OPENCODE = {"x-session-id": "ses_1", "x-session-affinity": "ses_1"}
SDK = {"x-stainless-retry-count": "0"}
SDK_AGAIN = {"x-stainless-retry-count": "1"}
NOBODY: dict[str, str] = {}

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "fix it"}]}
CLAUDE_BODY: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 64000,
    "system": [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "fix it", "cache_control": {"type": "x"}}]}
    ],
    "metadata": {"user_id": '{"session_id":"s1"}'},
    "stream": True,
}


class Counted:
    """A handler that counts its calls, and waits for `go` with each answer; a stream is begun before."""

    def __init__(self, *, stream: bool = False) -> None:
        self.calls = 0
        self.caught, self.go = trio.Event(), trio.Event()
        self._stream = stream

    async def __call__(self, exchange: Exchange) -> None:
        self.calls += 1
        number = self.calls
        if self._stream:
            async with exchange.open_stream() as stream:
                await stream.send(f"answer {number}")
                self.caught.set()
                await self.go.wait()
                await stream.send(ToolCall.of("bash", command="ls"))
        else:
            self.caught.set()
            await self.go.wait()
            await exchange.respond(f"answer {number}")


def path_of(dialect: str) -> str:
    return {"openai_responses": "/v1/responses"}.get(dialect) or PATHS[dialect]


async def reply_to(
    rollout: Rollout, body: dict[str, Any], headers: dict[str, str], dialect: str = "openai_chat"
) -> httpx2.Response:
    """The answer to a call, on a connection of its own."""
    url = rollout.base_url(dialect).removesuffix("/v1") + path_of(dialect)
    async with httpx2.AsyncClient(timeout=None) as client:
        return await client.post(url, json=body, headers=bearer(rollout) | headers)


async def whole(
    rollout: Rollout, body: dict[str, Any], headers: dict[str, str], dialect: str = "openai_chat"
) -> str:
    return (await reply_to(rollout, body, headers, dialect)).text


async def cut_off(
    rollout: Rollout, body: dict[str, Any], headers: dict[str, str], dialect: str = "openai_chat"
) -> bytes:
    """The first bytes of an answer, of which no more is read."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    path = f"/rollout/{rollout.id}{path_of(dialect)}"
    async with connected(httpx2.URL(rollout.base_url(dialect)).port or 0) as stream:
        await stream.send_all(raw_request(rollout, json.dumps(body).encode(), path=path, more=more))
        return bytes(await stream.receive_some())


async def settled(rollout: Rollout, count: int) -> None:
    while len(rollout.trace) < count:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def gone(rollout: Rollout, *, left: int = 0) -> None:
    """Wait until the server has noticed that agents have hung up: only so many wait for an answer."""
    while rollout._core.calls.connections > left:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def test_claude_codes_replay_of_a_broken_stream_without_stream_gets_the_same_answer() -> None:
    handler = Counted(stream=True)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler, on_hangup="finish") as rollout:
        assert await cut_off(rollout, CLAUDE_BODY, CLAUDE, "anthropic_messages")
        replay = {name: value for name, value in CLAUDE_BODY.items() if name != "stream"}
        replay["messages"] = [{"role": "user", "content": "fix it"}]  # its marks of the cache hop about
        texts: list[str] = []

        async def ask_again() -> None:
            texts.append(await whole(rollout, replay, CLAUDE, "anthropic_messages"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_again)
            await trio.testing.wait_all_tasks_blocked(0.02)
            handler.go.set()
    document = json.loads(texts[0])
    assert [block["type"] for block in document["content"]] == ["text", "tool_use"]
    assert document["content"][0]["text"] == "answer 1"
    assert [turn.outcome for turn in rollout.trace] == ["answered"]


async def test_claude_codes_replay_of_a_stream_that_the_program_broke_is_asked_anew() -> None:
    calls = 0

    async def break_the_first(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            await exchange.respond("better")
            return
        async with exchange.open_stream() as stream:
            await stream.send("half")
            raise Refusal(529, "overloaded")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(break_the_first) as rollout:
        with pytest.raises(httpx2.RemoteProtocolError):
            await whole(rollout, CLAUDE_BODY, CLAUDE, "anthropic_messages")
        replay = {name: value for name, value in CLAUDE_BODY.items() if name != "stream"}
        assert "better" in await whole(rollout, replay, CLAUDE, "anthropic_messages")
    assert [turn.outcome for turn in rollout.trace] == ["refused", "answered"]


async def test_codexs_retry_with_other_keys_and_order_joins_the_call_that_runs() -> None:
    handler, texts = Counted(stream=True), []
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]}
    body = {"model": "m", "input": [item], "stream": True, "prompt_cache_key": "t1"}
    first = body | {"client_metadata": {"a": "1", "b": "2"}}
    again = {"client_metadata": {"b": "2", "a": "1"}} | dict(reversed(body.items()))
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:

        async def send(document: dict[str, Any]) -> None:
            texts.append(await whole(rollout, document, CODEX, "openai_responses"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, first)
            await handler.caught.wait()
            nursery.start_soon(send, again)  # the first connection is still there: a proxy holds it
            while rollout._core.calls.connections < 2:
                await trio.testing.wait_all_tasks_blocked(0.005)
            handler.go.set()
    assert handler.calls == len(rollout.trace) == 1
    assert all("answer 1" in text and "response.completed" in text for text in texts), "each from the start"


@pytest.mark.parametrize("policy", ["finish", "cancel"])
async def test_opencodes_second_try_after_a_reset_runs_no_tool_twice(policy: str) -> None:
    handler = Counted(stream=True)
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(handler, on_hangup=policy) as rollout:  # type: ignore[arg-type]
            begun = await cut_off(rollout, body, OPENCODE)
            assert b"bash" not in begun, "a call is not seen before it is whole"
            if policy == "cancel":
                await settled(rollout, 1)
            handler.go.set()
            text = await whole(rollout, body, OPENCODE)
    assert text.count('"name":"bash"') == 1
    outcomes = [turn.outcome for turn in rollout.trace]
    assert outcomes == (["answered"] if policy == "finish" else ["abandoned", "answered"])


async def answer_at_once(exchange: Exchange) -> None:
    await exchange.respond(f"answer {len(exchange.rollout.trace)}")


async def test_an_answer_that_an_sdk_says_it_did_not_get_is_given_again() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer_at_once) as rollout:
        first, again = [json.loads(await whole(rollout, CHAT, headers)) for headers in (SDK, SDK_AGAIN)]
    assert (first["id"], first["choices"]) == (again["id"], again["choices"])
    assert len(rollout.trace) == 1


@pytest.mark.parametrize("headers", [SDK, CODEX, OPENCODE, CLAUDE, NOBODY])
async def test_who_has_its_answer_and_asks_the_same_again_gets_another(headers: dict[str, str]) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer_at_once) as rollout:
        for _ in range(3):
            await whole(rollout, CHAT, headers)
    assert [turn.response and turn.response.text for turn in rollout.trace] == [
        "answer 0",
        "answer 1",
        "answer 2",
    ]


async def test_a_retry_of_a_call_that_was_refused_is_asked_anew_whatever_was_answered_before() -> None:
    answers = ["first", Refusal(429, "slow down", retry_after=0), "second"]

    async def play(exchange: Exchange) -> None:
        answer = answers[len(exchange.rollout.trace)]
        if isinstance(answer, Refusal):
            raise answer
        await exchange.respond(answer)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(play) as rollout:
        assert "first" in await whole(rollout, CHAT, SDK)
        assert "slow down" in await whole(rollout, CHAT, SDK)
        assert "second" in await whole(rollout, CHAT, SDK_AGAIN)
    assert [turn.attempt for turn in rollout.trace] == [1, 1, 2]


SAMPLES = {
    "an SDK that says it is its first try": (SDK, SDK, 2),
    "a client that says nothing at all": (NOBODY, NOBODY, 2),
    "an SDK that marks a retry": (SDK, SDK_AGAIN, 1),
    "an agent that names its conversation": (CODEX, CODEX, 1),
    "Claude Code, whose count is always 0": (CLAUDE, CLAUDE, 1),
    "two conversations": (CODEX, CODEX | {"thread-id": "t2"}, 2),
}


@pytest.mark.parametrize(("one", "other", "calls"), SAMPLES.values(), ids=SAMPLES.keys())
async def test_the_same_call_twice_at_once_is_joined_on_proof_only(
    one: dict[str, str], other: dict[str, str], calls: int
) -> None:
    handler = Counted()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole, rollout, CHAT, one)
            await handler.caught.wait()
            nursery.start_soon(whole, rollout, CHAT, other)
            while rollout._core.calls.connections < 2 or handler.calls < calls:
                await trio.testing.wait_all_tasks_blocked(0.005)
            handler.go.set()
    assert handler.calls == len(rollout.trace) == calls


async def test_an_answer_on_its_way_to_one_that_waits_is_not_given_to_another_that_asks_the_same() -> None:
    big, big_sent = "x" * 8_000_000, trio.Event()

    async def answer(exchange: Exchange) -> None:
        if exchange.rollout.trace:
            await exchange.respond("small")
        else:
            big_sent.set()
            await exchange.respond(big)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        async with connected(endpoint.port) as slow:
            path = f"/rollout/{rollout.id}/v1/chat/completions"
            await slow.send_all(raw_request(rollout, json.dumps(CHAT).encode(), path=path))
            await big_sent.wait()
            await settled(rollout, 1)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert rollout._core.calls.connections == 1, "its answer is on its way"
            assert "small" in await whole(rollout, CHAT, NOBODY)
    assert len(rollout.trace) == 2


async def test_one_of_two_that_wait_for_the_same_answer_may_leave() -> None:
    handler = Counted()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with trio.open_nursery() as nursery:
            leaving = trio.CancelScope()

            @nursery.start_soon
            async def leave() -> None:
                with leaving:
                    await whole(rollout, CHAT, CODEX)

            await handler.caught.wait()
            texts: list[str] = []

            @nursery.start_soon
            async def stay() -> None:
                texts.append(await whole(rollout, CHAT, CODEX))

            while rollout._core.calls.connections < 2:
                await trio.testing.wait_all_tasks_blocked(0.002)
            leaving.cancel()
            while rollout._core.calls.connections > 1:
                await trio.testing.wait_all_tasks_blocked(0.002)
            handler.go.set()
    assert "answer 1" in texts[0]
    assert [turn.outcome for turn in rollout.trace] == ["answered"]


async def test_an_answer_that_could_not_be_recorded_is_not_given_again() -> None:
    class Full:
        failures = 1

        async def record(self, turn: object) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError(28, "no space left")

        async def seal(self, trace: object) -> None: ...

        async def aclose(self) -> None: ...

    async def stubborn(exchange: Exchange) -> None:
        try:
            await exchange.respond("x")
        except OSError:
            pass

    async with serve_endpoint() as endpoint, endpoint.open_rollout(stubborn, recorder=Full()) as rollout:
        assert "failed" in await whole(rollout, CHAT, SDK)
        assert '"x"' in await whole(rollout, CHAT, SDK_AGAIN)
    assert [turn.outcome for turn in rollout.trace] == ["failed", "answered"]


async def test_of_a_stream_that_was_delivered_nothing_is_kept_for_a_retry_but_the_whole() -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for _ in range(3):
                await stream.send("word ")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        assert (await whole(rollout, CHAT | {"stream": True}, SDK)).count("word ") == 3
        await trio.testing.wait_all_tasks_blocked(0.01)
        (ended,) = rollout._core.calls._latest
        assert ended.answer.entries == []
        assert "word word word " in await whole(rollout, CHAT, SDK_AGAIN)
    assert len(rollout.trace) == 1


@pytest.mark.parametrize("others", ["of another system prompt", "delivered", "refused"])
async def test_an_answer_that_nobody_got_is_kept_whatever_comes_in_between(others: str) -> None:
    """Of the sixty-four those are kept longest. Sub-agents may begin with the same words."""
    begun, go = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        if exchange.request.system == "lost":
            begun.set()
            await go.wait()
        if exchange.request.last is not None and exchange.request.last.text.startswith("refuse"):
            raise Refusal(429, "no")
        await exchange.respond(f"an answer to {exchange.request.system}")

    def asked(system: str, text: str) -> dict[str, Any]:
        said = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        return {"model": "m", "messages": said}

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, on_hangup="finish") as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole, rollout, asked("lost", "fix it"), SDK)
            await begun.wait()
            nursery.cancel_scope.cancel()
        await gone(rollout)
        go.set()
        match others:
            case "of another system prompt":
                assert "answer to other" in await whole(rollout, asked("other", "fix it"), SDK)
            case "delivered":
                for number in range(KEPT_ANSWERS + 2):
                    await whole(rollout, asked("other", f"{number}"), SDK)
            case _:
                for number in range(KEPT_ANSWERS + 2):
                    await whole(rollout, asked("other", f"refuse {number}"), SDK)
        assert "answer to lost" in await whole(rollout, asked("lost", "fix it"), SDK_AGAIN)
    assert [turn.request.system for turn in rollout.trace].count("lost") == 1


async def test_of_two_samples_of_one_prompt_the_retry_gets_the_one_that_nobody_got() -> None:
    handler = Counted()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler, on_hangup="finish") as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole, rollout, CHAT, SDK)
            await handler.caught.wait()
            nursery.cancel_scope.cancel()
        await gone(rollout)
        handler.go.set()
        await settled(rollout, 1)
        assert "answer 2" in await whole(rollout, CHAT | {"temperature": 1}, SDK)
        assert "answer 1" in await whole(rollout, CHAT, SDK_AGAIN)
    assert len(rollout.trace) == 2


async def test_a_retry_of_a_call_that_could_not_be_recorded_is_asked_anew() -> None:
    class FailsOnce:
        async def record(self, turn: Turn) -> None:
            if turn.number == 1:
                raise OSError("disk full")

        async def seal(self, trace: Trace) -> None: ...

        async def aclose(self) -> None: ...

    answers = iter(["one", "two", "three"])
    async with serve_endpoint(recorder=FailsOnce()) as endpoint, endpoint.open_rollout() as rollout:

        async def answer() -> None:
            async for exchange in rollout:
                with suppress(OSError):
                    await exchange.respond(next(answers))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert "one" in await whole(rollout, CHAT, SDK)
            assert "failed" in await whole(rollout, CHAT, SDK)
            assert "three" in await whole(rollout, CHAT, SDK_AGAIN)
            nursery.cancel_scope.cancel()


async def hung_up(rollout: Rollout, body: dict[str, Any], begun: trio.Event) -> None:
    """Ask, and leave when the handler is at work."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(whole, rollout, body, SDK)
        await begun.wait()
        nursery.cancel_scope.cancel()
    await gone(rollout)


async def test_a_lost_answer_that_is_there_is_given_before_one_that_somebody_waits_for() -> None:
    begun, go = [trio.Event(), trio.Event()], [trio.Event(), trio.Event()]

    async def answer(exchange: Exchange) -> None:
        number = sum(event.is_set() for event in begun)
        begun[number].set()
        await go[number].wait()
        await exchange.respond(f"answer {number}")

    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(answer, on_hangup="finish") as rollout,
        trio.open_nursery() as nursery,
    ):
        leaves = trio.CancelScope()

        async def leave() -> None:
            with leaves:
                await whole(rollout, CHAT, SDK)

        nursery.start_soon(leave)
        await begun[0].wait()
        nursery.start_soon(whole, rollout, CHAT, SDK)
        await begun[1].wait()
        leaves.cancel()
        await gone(rollout, left=1)
        go[0].set()
        await settled(rollout, 1)
        assert "answer 0" in await whole(rollout, CHAT, SDK_AGAIN)
        go[1].set()
    assert len(rollout.trace) == 2


async def test_retries_are_known_though_all_that_is_kept_was_lost() -> None:
    async def answer(exchange: Exchange) -> None:
        text = exchange.request.last.text if exchange.request.last else ""
        if text != "now":
            waits.append(exchange)
            come.set()
            await go.wait()
        await exchange.respond(f"answer {len(exchange.rollout.trace)}")

    waits: list[Exchange] = []
    go = trio.Event()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, on_hangup="finish") as rollout:
        for number in range(KEPT_ANSWERS):
            come = trio.Event()
            body = {"model": "m", "messages": [{"role": "user", "content": f"{number}"}]}
            await hung_up(rollout, body, come)
        go.set()
        await settled(rollout, KEPT_ANSWERS)
        now = {"model": "m", "messages": [{"role": "user", "content": "now"}]}
        answers = [json.loads(await whole(rollout, now, headers)) for headers in (SDK, SDK_AGAIN)]
    for answered in answers:
        del answered["created"]  # when triocept has answered: the clock may tick between two
    assert answers[0] == answers[1]
    assert len(rollout.trace) == KEPT_ANSWERS + 1


async def test_a_rollout_can_be_told_that_every_call_is_its_own() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer_at_once, on_retry="new") as rollout:
        await whole(rollout, CHAT, SDK)
        await whole(rollout, CHAT, SDK_AGAIN)
    assert len(rollout.trace) == 2


async def test_a_refusals_headers_reach_the_agent_and_none_that_would_break_its_frame() -> None:
    limits = {"X-RateLimit-Remaining-Tokens": "0", "anthropic-ratelimit-unified-status": "rejected"}

    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(429, "slow down", retry_after=3, headers=limits)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse) as rollout:
        reply = await reply_to(rollout, CHAT, SDK)
    assert reply.headers["x-ratelimit-remaining-tokens"] == "0"
    assert reply.headers["anthropic-ratelimit-unified-status"] == "rejected"
    assert reply.headers["retry-after"] == "3"
    for bad in ({"Content-Length": "1"}, {"a b": "x"}, {"x": "a\r\nb: c"}, {"": "x"}):
        with pytest.raises(ValueError, match="header"):
            Refusal(429, "x", headers=bad)
