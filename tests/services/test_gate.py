"""The gate: an agent's hook asks before a tool runs, and each result is held against the questions."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import bearer, url_of
from triocept import Exchange, Response, Rollout, ScriptedModel, ToolCall, agents, serve_endpoint
from triocept.errors import GateBypassed
from triocept.handlers import Decision, Gate, approve
from triocept.types import Json

CALL = ToolCall("run", '{"command":"ls"}', "call_1")
ALLOW: Json = {"decision": "allow"}
REJECTED = "The tool call was rejected: "


class Agent:
    """An agent with hooks: it asks the gate before it runs a tool, and shows it the result."""

    def __init__(
        self, rollout: Rollout, client: httpx2.AsyncClient, dialect: str = "anthropic_messages"
    ) -> None:
        self._client, self._dialect = client, dialect
        self._url, self._gate = url_of(rollout, dialect), rollout.service_url("gate")
        self.messages: list[Json] = [{"role": "user", "content": "go"}]
        self.ran: list[Json] = []

    async def ask_model(self) -> list[Json]:
        """Return the tool calls of the model's next answer: id, name, arguments."""
        tools: Any = [{"name": "run", "input_schema": {"type": "object"}}]
        if self._dialect == "openai_chat":
            tools = [{"type": "function", "function": {"name": "run"}}]
        body = {"model": "m", "max_tokens": 9, "messages": self.messages, "tools": tools}
        self.response = await self._client.post(self._url, json=body)
        if self.response.status_code != 200:
            return []
        if self._dialect == "openai_chat":
            message = self.response.json()["choices"][0]["message"]
            self.messages.append(message)
            given = message.get("tool_calls") or []
            return [
                {"id": each["id"], "tool": each["function"]["name"], "arguments": {"command": "ls"}}
                for each in given
            ]
        content = self.response.json()["content"]
        self.messages.append({"role": "assistant", "content": content})
        calls = [block for block in content if block["type"] == "tool_use"]
        return [{"id": each["id"], "tool": each["name"], "arguments": each["input"]} for each in calls]

    async def ask_gate(self, question: Json) -> Json:
        response = await self._client.post(self._gate, json=question)
        return (
            response.json() if response.status_code == 200 else {"decision": "deny", "reason": response.text}
        )

    async def run(self, call: Json, *, text: str = "done", with_id: bool = True) -> Json:
        """Ask the gate about one call, and run it if it is allowed. Return the result."""
        question = call if with_id else {**call, "id": ""}
        answer = await self.ask_gate(question)
        if answer["decision"] == "deny":
            return self.result(call, answer["reason"], error=True)
        self.ran.append(answer.get("arguments", call["arguments"]))
        shown = await self.ask_gate({**question, "result": text})
        return self.result(call, shown.get("result", text))

    def result(self, call: Json, text: str, *, error: bool = False) -> Json:
        if self._dialect == "openai_chat":
            return {"role": "tool", "tool_call_id": call["id"], "content": text}
        return {"type": "tool_result", "tool_use_id": call["id"], "content": text, "is_error": error}

    def add(self, *results: Json) -> None:
        if self._dialect == "openai_chat":
            self.messages += results
        else:
            self.messages.append({"role": "user", "content": list(results)})


@asynccontextmanager
async def opened(
    *replies: Any, dialect: str = "anthropic_messages", **options: Any
) -> AsyncIterator[tuple[Rollout, Agent]]:
    """A rollout whose model gives these replies, and an agent with hooks."""
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint:
            handler = options.pop("handler", None) or ScriptedModel(list(replies))
            async with endpoint.open_rollout(handler, **options) as rollout:
                async with httpx2.AsyncClient(headers=bearer(rollout), timeout=None) as client:
                    yield rollout, Agent(rollout, client, dialect)


@pytest.fixture
def with_hook(tmp_path: Path) -> Any:
    """Prepare the launch of an agent with hooks, which is not started."""
    return lambda rollout: agents.claude_code(rollout, tmp_path, "go")


async def test_a_policy_decides_before_a_tool_runs_and_a_function_after_it() -> None:
    seen: list[object] = []

    async def policy(call: ToolCall, exchange: Exchange) -> Decision:
        await trio.lowlevel.checkpoint()
        seen.append((call.id, exchange.request.user_text))
        return Decision.modify({"command": "ls -l"}) if call.id == "call_1" else Decision.reject("not twice")

    def after(call: ToolCall, result: Json, exchange: Exchange) -> str:
        seen.append((call.id, result))
        return "a shorter text"

    second = ToolCall("run", '{"command":"rm"}', "call_2")
    async with opened(Response.of(CALL, second), "bye", gate=Gate(policy, after=after)) as (rollout, agent):
        first, other = await agent.ask_model()
        agent.add(await agent.run(first), await agent.run(other))
        assert await agent.ask_model() == []
    assert agent.ran == [{"command": "ls -l"}]
    assert seen == [("call_1", "go"), ("call_1", "done"), ("call_2", "go")]
    results = rollout.trace[1].request.tool_results
    assert [(result.text, result.is_error) for result in results] == [
        ("a shorter text", False),
        (f"{REJECTED}not twice", True),
    ]
    recorded = [(call.kind, call.name, call.outcome, call.result) for call in rollout.trace.services]
    assert [each[:3] for each in recorded] == [("gate", "run", "answered")] * 3
    assert recorded[0][3]["kind"] == "modify"
    assert recorded[1][3] == {"result": "a shorter text"}
    assert recorded[2][3]["reason"] == "not twice"


@pytest.mark.parametrize("gate", [{"*": Decision.approve()}, [{"run": Decision.approve()}]])
async def test_a_policy_alone_is_a_gate(gate: Any) -> None:
    async with opened(CALL, "bye", gate=gate) as (_, agent):
        agent.add(await agent.run((await agent.ask_model())[0]))
        await agent.ask_model()
    assert agent.ran == [{"command": "ls"}]


@pytest.mark.parametrize("gate", [3, {}, "Read", Decision.approve(), lambda call: None])
async def test_what_is_no_gate_is_an_error(gate: Any) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises((TypeError, ValueError), match="gate"):
            endpoint.open_rollout(gate=gate)
    with pytest.raises(TypeError, match="three arguments"):
        Gate(after=lambda call: None)  # type: ignore[arg-type, misc]
    with pytest.raises(ValueError, match="'end' or 'report', not 'maybe'"):
        Gate(on_bypass="maybe")  # type: ignore[arg-type]


async def test_a_result_without_a_question_ends_the_rollout() -> None:
    with pytest.raises(
        GateBypassed, match=r"run \(call_1\) has a result, but the agent's hook never asked the gate"
    ):
        async with opened(CALL, "bye", gate={"*": Decision.approve()}) as (rollout, agent):
            (call,) = await agent.ask_model()
            agent.add(agent.result(call, "done"))
            await agent.ask_model()
            assert agent.response.status_code == 500
            assert "GateBypassed" in agent.response.text
            await trio.sleep_forever()
    assert rollout.trace[1].error is not None
    assert rollout.trace[1].error.type == "GateBypassed"
    (service,) = rollout.trace.services
    assert (service.kind, service.name, service.outcome) == ("gate", "run", "failed")


@pytest.mark.parametrize("on_fault", ["cancel", "stay"])
async def test_a_bypass_ends_a_rollout_that_outlives_faults(on_fault: Any) -> None:
    outlived = False
    with pytest.raises(GateBypassed):
        async with opened(CALL, "bye", gate={"*": Decision.approve()}, on_fault=on_fault) as (_, agent):
            (call,) = await agent.ask_model()
            agent.add(agent.result(call, "done"))
            await agent.ask_model()
            with trio.move_on_after(5):
                await trio.sleep_forever()
            outlived = True
    assert not outlived


async def test_a_result_without_a_question_is_reported_where_results_have_no_error_mark(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = {"*": Decision.approve()}
    async with opened(CALL, "bye", gate=gate, dialect="openai_chat") as (rollout, agent):
        (call,) = await agent.ask_model()
        agent.add(agent.result(call, "done"))
        await agent.ask_model()
        assert agent.response.status_code == 200
    (service,) = rollout.trace.services
    assert service.error is not None
    assert service.error.type == "GateBypassed"
    assert "never asked" in caplog.text


@pytest.mark.parametrize("dialect", ["anthropic_messages", "openai_chat"])
@pytest.mark.parametrize("on_bypass", ["end", "report"])
async def test_the_program_chooses_what_a_bypass_does(dialect: str, on_bypass: Any) -> None:
    ended = False
    try:
        gate = Gate({"*": Decision.approve()}, on_bypass=on_bypass)
        async with opened(CALL, "bye", gate=gate, dialect=dialect) as (_, agent):
            (call,) = await agent.ask_model()
            agent.add(agent.result(call, "done"))
            await agent.ask_model()
            await trio.sleep(0.1 if on_bypass == "report" else 10)
    except GateBypassed:
        ended = True
    assert ended == (on_bypass == "end")


@pytest.mark.parametrize("reason", ["not on a Sunday", "- \nnot on a Sunday"])
async def test_a_rejected_call_that_ran_all_the_same_ends_the_rollout(reason: str) -> None:
    with pytest.raises(
        GateBypassed, match="was rejected at the gate, but its result does not contain the reason"
    ):
        async with opened(CALL, "bye", gate={"*": Decision.reject(reason)}) as (_, agent):
            (call,) = await agent.ask_model()
            assert (await agent.ask_gate(call)) == {"decision": "deny", "reason": f"{REJECTED}{reason}"}
            agent.add(agent.result(call, "the files"))
            await agent.ask_model()
            await trio.sleep_forever()


async def test_a_question_that_was_not_answered_is_none() -> None:
    """A hook that times out: the agent runs its tool then."""
    waiting = trio.Event()

    async def wait(call: ToolCall, exchange: Exchange) -> Decision:
        waiting.set()
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(GateBypassed, match="the gate has not answered the hook's question"):
        async with opened(CALL, "bye", gate=wait) as (_, agent):
            (call,) = await agent.ask_model()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent.ask_gate, call)
                await waiting.wait()
                nursery.cancel_scope.cancel()
            agent.add(agent.result(call, "done"))
            await agent.ask_model()
            await trio.sleep_forever()


@pytest.mark.parametrize("call", [ToolCall.of("unknown"), ToolCall("run", '{"comm')])
@pytest.mark.parametrize("dialect", ["anthropic_messages", "openai_chat"])
async def test_the_agents_own_error_needs_no_question(call: ToolCall, dialect: str) -> None:
    gate = Gate({"*": Decision.approve()}, on_bypass="end")
    async with opened(call, "bye", gate=gate, dialect=dialect) as (rollout, agent):
        (given,) = await agent.ask_model()
        agent.add(agent.result(given, "no such tool", error=True))
        await agent.ask_model()
        assert agent.response.status_code == 200
    assert not rollout.trace.services


async def test_a_policy_that_fails_denies_and_ends_the_rollout() -> None:
    def fail(call: ToolCall, exchange: Exchange) -> Decision:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with opened(CALL, "bye", gate=fail) as (_, agent):
            assert (await agent.ask_gate((await agent.ask_model())[0]))["decision"] == "deny"
            await trio.sleep_forever()


async def test_a_policy_may_end_the_rollout() -> None:
    async with opened(CALL, "bye", gate={"*": Decision.terminate("enough")}) as (rollout, agent):
        answer = await agent.ask_gate((await agent.ask_model())[0])
        assert answer["decision"] == "deny"
        assert await agent.ask_model() == []
        assert agent.response.status_code == 404
    assert rollout.stopped == "enough"


async def test_the_text_of_an_answer_is_no_decision_at_the_gate() -> None:
    with pytest.raises(
        TypeError, match=r"of this agent cannot carry out Decision.answer at the gate: use approve"
    ):
        async with opened(CALL, "bye", gate={"*": Decision.answer("no")}) as (_, agent):
            await agent.ask_gate((await agent.ask_model())[0])
            await trio.sleep_forever()


async def test_a_call_that_the_model_did_not_propose() -> None:
    question = {"tool": "run", "arguments": {"command": "id"}, "id": "own"}
    async with opened(CALL, "bye", gate=Gate(on_bypass="end")) as (_, agent):
        await agent.ask_model()
        assert (await agent.ask_gate(question))["decision"] == "deny"
    async with opened(CALL, "bye", gate={"run": Decision.approve()}) as (_, agent):
        await agent.ask_model()
        assert (await agent.ask_gate(question)) == ALLOW


@pytest.mark.parametrize("seed", range(3))
async def test_calls_are_asked_in_any_order_and_get_their_own_decisions(seed: int, with_hook: Any) -> None:
    draw = random.Random(seed)
    calls = [ToolCall("run", f'{{"command":"{n}"}}', f"call_{n}") for n in range(20)]
    rejected = draw.sample(range(20), 7)

    async def policy(call: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep(draw.random() / 100)
        number = int(call.parsed()["command"])
        return Decision.reject(f"no number {number}") if number in rejected else Decision.approve()

    handler = approve(ScriptedModel([Response.of(*calls), "bye"]), policy)
    async with opened(handler=handler) as (rollout, agent):
        with_hook(rollout)
        given = await agent.ask_model()
        assert [each["id"] for each in given] == [call.id for call in calls], "the answer is unchanged"
        results: dict[str, Json] = {}

        async def run(call: Json) -> None:
            results[call["id"]] = await agent.run(call)

        async with trio.open_nursery() as nursery:
            for each in draw.sample(given, 20):
                nursery.start_soon(run, each)
        agent.add(*[results[call.id] for call in calls])
        await agent.ask_model()
    assert sorted(int(each["command"]) for each in agent.ran) == sorted({*range(20)} - {*rejected})
    assert {decided.way for decided in rollout.trace[0].decisions} == {"gate"}
    texts = [result.text for result in rollout.trace[1].request.tool_results]
    assert texts == [f"{REJECTED}no number {n}" if n in rejected else "done" for n in range(20)]
    assert not rollout.trace[0].drafts


async def test_without_a_hook_approve_changes_the_answer() -> None:
    handler = approve(ScriptedModel([CALL, "bye"]), {"*": Decision.reject("no")})
    async with opened(handler=handler) as (rollout, agent):
        assert await agent.ask_model() == []
        assert (await agent.ask_gate({"tool": "run", "arguments": {}}))["decision"] == "deny"
    assert [decided.way for decided in rollout.trace[0].decisions] == ["answer"]


async def test_within_another_handler_approve_changes_the_answer(with_hook: Any) -> None:
    """The outer handler may change the calls that were decided."""

    async def outer(exchange: Exchange) -> None:
        await exchange.forward(approve(ScriptedModel([CALL, "bye"]), {"*": Decision.reject("no")}))

    async with opened(handler=outer) as (rollout, agent):
        assert "--settings" not in with_hook(rollout).argv
        assert await agent.ask_model() == []
    assert [decided.way for decided in rollout.trace[0].decisions] == ["answer"]


async def test_a_wrong_question_is_an_error() -> None:
    async with opened(CALL, gate={"*": Decision.approve()}) as (rollout, agent):
        assert "not a question of the hook" in (await agent.ask_gate({"tool": "run"}))["reason"]
        assert "not a question of the hook" in (await agent.ask_gate({"tool": 3, "arguments": {}}))["reason"]
        agent._gate = rollout.service_url("gate/other")
        assert "unknown agent 'other'" in (await agent.ask_gate({}))["reason"]
    async with opened(CALL) as (rollout, agent):
        assert "has no gate" in (await agent.ask_gate({"tool": "run", "arguments": {}}))["reason"]


@pytest.mark.parametrize("name", agents.AGENTS)
async def test_a_launch_configures_the_hook_or_says_that_there_is_none(name: str, tmp_path: Path) -> None:
    async with opened(CALL, gate={"*": Decision.approve()}) as (rollout, _):
        if name in ("claude_code", "codex", "copilot", "gemini_cli", "opencode", "qwen_code"):
            launch = agents.agent(name)(rollout, tmp_path, "go")
            files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
            assert any(f"/gate/{name}" in text for text in files)
            assert not any(
                rollout.api_key in text for text in files if "/gate/" in text and name != "opencode"
            )
            assert launch.ungated == (("write_stdin",) if name == "codex" else ())
        else:
            with pytest.raises(ValueError, match="no hooks, so it cannot ask the gate"):
                agents.agent(name)(rollout, tmp_path, "go")
    async with opened(CALL) as (rollout, _):
        agents.agent(name)(rollout, tmp_path / "other", "go")
        files = [path.read_text() for path in (tmp_path / "other").rglob("*") if path.is_file()]
        assert not any("/gate" in text for text in files), "nothing is configured that no rollout needs"
