"""The gate finds the call of each question and of each result, whatever ids, order and repetition agents use."""

from __future__ import annotations

import json
import logging
import random
from itertools import count
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from msgspec.structs import replace

from tests.asking import url_of
from tests.services.test_gate import ALLOW, CALL, Agent, opened, with_hook
from triocept import (
    Exchange,
    Message,
    Refusal,
    Request,
    Response,
    Rollout,
    ScriptedModel,
    Text,
    Tool,
    ToolCall,
    UpstreamError,
)
from triocept._rollout.hooks import NEUTRAL, Question
from triocept._rollout.rollout import core_of_rollout
from triocept._util.failures import leaves
from triocept.errors import GateBypassed
from triocept.handlers import Decision, Gate, approve
from triocept.testing import open_memory_agent, open_rollout
from triocept.types import Json, Opaque, ToolResult

__all__ = ["with_hook"]

LIST, REMOVE = (ToolCall.of("run", command=command) for command in ("ls", "rm"))


def numbered(*calls: ToolCall) -> Response:
    """An answer of a model that gives every call the same id."""
    return Response.of(*[ToolCall(call.name, call.arguments, "call_0") for call in calls])


def no_removal(call: ToolCall, exchange: Exchange) -> Decision:
    return Decision.reject("no") if call.parsed().get("command") == "rm" else Decision.approve()


class Model:
    """Answers each conversation, named by its first message, with its own replies; counts the policy's calls."""

    def __init__(self, **replies: list[Any]) -> None:
        self._replies = replies

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.respond(self._replies[exchange.request.messages[0].text].pop(0))


def second_agent(agent: Agent, name: str) -> Agent:
    other = object.__new__(Agent)
    other.__dict__.update(agent.__dict__, messages=[{"role": "user", "content": name}], ran=[])
    return other


def without_id(call: Json) -> Json:
    return {**call, "id": ""}


ENDS = {"on_bypass": "end"}


@pytest.mark.parametrize("way", ["gate", "approve"])
async def test_calls_of_one_answer_with_the_same_id_get_their_own_decisions(way: str, with_hook: Any) -> None:
    model = ScriptedModel([numbered(LIST, REMOVE), "bye"])
    options: Any = {"handler": approve(model, no_removal)} if way == "approve" else {"gate": no_removal}
    async with opened(**({"handler": model} | options)) as (rollout, agent):
        if way == "approve":
            with_hook(rollout)
        first, second = await agent.ask_model()
        removed, listed = await agent.run(second), await agent.run(first)
        agent.add(listed, removed)
        await agent.ask_model()
        assert agent.response.status_code == 200
    assert agent.ran == [{"command": "ls"}]


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without ids"])
async def test_sub_agents_whose_calls_have_the_same_id_get_their_own_decisions(ids: bool) -> None:
    model = Model(go=[numbered(LIST), numbered(REMOVE), "bye"], two=[numbered(REMOVE), numbered(LIST), "bye"])
    async with opened(handler=model, gate=Gate(no_removal, on_bypass="end")) as (_, one):
        two = second_agent(one, "two")
        for _ in range(2):
            (mine,), (theirs,) = await one.ask_model(), await two.ask_model()
            two.add(await two.run(theirs, with_id=ids))
            one.add(await one.run(mine, with_id=ids))
        for agent in (one, two):
            await agent.ask_model()
            assert agent.response.status_code == 200
    assert one.ran == two.ran == [{"command": "ls"}]


async def test_an_unasked_call_with_a_repeated_id_is_noticed() -> None:
    model = Model(go=[numbered(LIST), "bye"], two=[numbered(REMOVE), "bye"])
    with pytest.raises(GateBypassed, match="never asked"):
        async with opened(handler=model, gate={"*": Decision.approve()}) as (_, one):
            two = second_agent(one, "two")
            (mine,), (theirs,) = await one.ask_model(), await two.ask_model()
            one.add(await one.run(mine))
            two.add(two.result(theirs, "removed"))
            await one.ask_model()
            assert one.response.status_code == 200
            await two.ask_model()
            await trio.sleep_forever()


async def test_a_model_that_numbers_the_calls_of_each_answer_anew_accuses_no_agent() -> None:
    answers = [numbered(LIST), numbered(REMOVE), numbered(LIST), numbered(REMOVE), "bye"]
    async with opened(*answers, gate=Gate(no_removal, on_bypass="end")) as (_, agent):
        while calls := await agent.ask_model():
            agent.add(await agent.run(calls[0]))
        assert agent.response.status_code == 200
    assert agent.ran == [{"command": "ls"}] * 2


async def test_a_late_question_about_an_old_call_decides_nothing_about_a_new_one() -> None:
    with pytest.raises(GateBypassed, match="never asked"):
        async with opened(numbered(LIST), numbered(REMOVE), "bye", gate={"*": Decision.approve()}) as (
            _,
            agent,
        ):
            (old,) = await agent.ask_model()
            agent.add(await agent.run(old))
            await agent.ask_gate({**old, "arguments": {"command": "id"}})
            (new,) = await agent.ask_model()
            assert await agent.ask_gate({**old, "arguments": {"command": "id"}}) == ALLOW
            agent.add(agent.result(new, "removed"))
            await agent.ask_model()
            await trio.sleep_forever()


def rename(agent: Agent, old: str, new: str) -> None:
    """Change an id in the agent's history, as some agents do."""
    agent.messages[:] = json.loads(json.dumps(agent.messages).replace(f'"{old}"', f'"{new}"'))


async def test_an_agent_that_renames_ids_in_its_history_is_noticed() -> None:
    with pytest.raises(GateBypassed, match="never asked"):
        async with opened(CALL, "bye", gate={"*": Decision.approve()}) as (_, agent):
            (call,) = await agent.ask_model()
            agent.add(agent.result(call, "done"))
            rename(agent, "call_1", "mine")
            await agent.ask_model()
            await trio.sleep_forever()


async def test_an_honest_agent_may_rename_ids_in_its_history() -> None:
    calls = [ToolCall(call.name, call.arguments, f"call_{n}") for n, call in enumerate([LIST, REMOVE] * 3)]
    async with opened(*calls, "bye", gate=Gate(no_removal, on_bypass="end")) as (_, agent):
        for call in calls:
            (given,) = await agent.ask_model()
            agent.add(await agent.run(given))
            rename(agent, call.id, f"mine_{call.id}")
        await agent.ask_model()
        assert agent.response.status_code == 200
    assert len(agent.ran) == 3


@pytest.mark.parametrize("reason", ["no", "", "the"])
async def test_a_short_reason_matches_no_output_of_a_tool(reason: str) -> None:
    with pytest.raises(GateBypassed, match="does not contain the reason"):
        async with opened(CALL, "bye", gate={"*": Decision.reject(reason)}) as (_, agent):
            (call,) = await agent.ask_model()
            await agent.ask_gate(call)
            agent.add(agent.result(call, "the file is not here: no such file"))
            await agent.ask_model()
            await trio.sleep_forever()


async def test_the_same_call_made_twice_is_no_bypass_where_hooks_send_no_ids() -> None:
    """The first answer was lost, and the agent has never run its call."""
    calls = [ToolCall("run", CALL.arguments, name) for name in ("lost", "again")]
    async with opened(*calls, "bye", gate=Gate({"*": Decision.approve()}, on_bypass="end")) as (_, agent):
        await agent.ask_model()
        agent.messages[:] = [{"role": "user", "content": "once more"}]
        (call,) = await agent.ask_model()
        agent.add(await agent.run(call, with_id=False))
        await agent.ask_model()
        assert agent.response.status_code == 200


async def test_equal_calls_of_sub_agents_are_told_apart_without_ids() -> None:
    """The second agent's question comes first, and its call is allowed; the first agent's is not."""
    model = Model(
        go=[ToolCall("run", CALL.arguments, "a"), "bye"], two=[ToolCall("run", CALL.arguments, "b"), "bye"]
    )
    left = [Decision.reject("once is enough"), Decision.approve()]

    def policy(call: ToolCall, exchange: Exchange) -> Decision:
        return left.pop()

    async with opened(handler=model, gate=Gate(policy, on_bypass="end")) as (_, one):
        two = second_agent(one, "two")
        (mine,), (theirs,) = await one.ask_model(), await two.ask_model()
        one.add(await one.run(mine, with_id=False))
        two.add(await two.run(theirs, with_id=False))
        for agent in (one, two):
            await agent.ask_model()
            assert agent.response.status_code == 200
    assert (len(one.ran), len(two.ran)) == (1, 0)


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without ids"])
@pytest.mark.parametrize("gate", [{"*": Decision.approve()}, {"*": Decision.reject("no")}, None])
async def test_a_question_during_the_stream_is_about_the_call_of_this_stream(gate: Any, ids: bool) -> None:
    began, asked = trio.Event(), trio.Event()

    async def model(exchange: Exchange) -> None:
        if exchange.request.messages[-1].tool_results:
            await exchange.respond("bye")
            return
        began.set()
        await asked.wait()
        await exchange.respond(CALL)

    async with opened(handler=model, gate=Gate(gate, on_bypass="end")) as (_, agent):
        question = {"tool": "run", "arguments": {"command": "ls"}, "id": CALL.id if ids else ""}
        results: list[Json] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.ask_model)
            await began.wait()
            results.append(await agent.run({**question, "id": CALL.id}, with_id=ids))
            asked.set()
        agent.add(*results)
        await agent.ask_model()
        assert agent.response.status_code == 200
    assert len(agent.ran) == (gate == {"*": Decision.approve()})


async def test_a_call_that_the_user_has_interrupted_needs_no_question() -> None:
    async with opened(CALL, "bye", gate={"*": Decision.approve()}) as (_, agent):
        (call,) = await agent.ask_model()
        agent.add(agent.result(call, "[Request interrupted by user for tool use]"))
        await agent.ask_model()
        assert agent.response.status_code == 200


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without ids"])
@pytest.mark.parametrize("proposed", [True, False])
async def test_a_question_that_is_repeated_gets_one_decision(proposed: bool, ids: bool) -> None:
    asked = 0

    async def policy(call: ToolCall, exchange: Exchange) -> Decision:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        return Decision.approve()

    async with opened(CALL, "bye", gate=policy) as (_, agent):
        await agent.ask_model()
        question = {"tool": "run", "arguments": {"command": "ls" if proposed else "id"}, "id": CALL.id}
        question["id"] = (CALL.id if proposed else "other") if ids else ""
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(agent.ask_gate, question)
    assert asked == 1


async def test_a_question_whose_first_asker_left_is_decided_for_the_second() -> None:
    asked = 0
    waiting = trio.Event()

    async def policy(call: ToolCall, exchange: Exchange) -> Decision:
        nonlocal asked
        asked += 1
        if asked == 1:
            waiting.set()
            await trio.sleep_forever()
        return Decision.approve()

    async with opened(CALL, "bye", gate=policy) as (_, agent):
        (call,) = await agent.ask_model()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.ask_gate, call)
            await waiting.wait()
            nursery.cancel_scope.cancel()
        assert await agent.ask_gate(call) == ALLOW


@pytest.mark.parametrize("error", [Refusal(503, "the policy service is down"), ZeroDivisionError("secret")])
async def test_a_policy_that_fails_is_a_rejection_that_accuses_no_agent(error: Exception) -> None:
    def policy(call: ToolCall, exchange: Exchange) -> Decision:
        raise error

    try:
        async with opened(CALL, "bye", gate=Gate(policy, on_bypass="end"), on_fault="stay") as (
            rollout,
            agent,
        ):
            (call,) = await agent.ask_model()
            response = await agent._client.post(agent._gate, json=call)
            assert response.status_code == 200
            assert response.json()["decision"] == "deny"
            assert "secret" not in response.text
            agent.add(await agent.run(call))
            await agent.ask_model()
            assert agent.response.status_code == 200
    except ZeroDivisionError:
        assert isinstance(error, ZeroDivisionError)
    assert agent.ran == []
    assert rollout.trace.services[0].outcome == "failed"


async def test_a_result_of_a_modified_call_reaches_the_function_without_an_id() -> None:
    def hide(call: ToolCall, result: Json, exchange: Exchange) -> str:
        return "hidden"

    gate = Gate({"*": Decision.modify({"command": "cat key"})}, after=hide, on_bypass="end")
    async with opened(CALL, "bye", gate=gate) as (_, agent):
        (call,) = await agent.ask_model()
        changed = await agent.ask_gate(without_id(call))
        shown = await agent.ask_gate({"tool": "run", "arguments": changed["arguments"], "result": "a key"})
        assert shown == {"result": "hidden"}
        agent.add(agent.result(call, "hidden"))
        await agent.ask_model()
        assert agent.response.status_code == 200
        assert (await agent.ask_gate({"tool": "own", "arguments": {}, "result": "a key"})) == shown


async def test_decisions_of_the_gate_are_in_the_turn_with_the_results() -> None:
    calls = [ToolCall(call.name, call.arguments, f"call_{n}") for n, call in enumerate([LIST, REMOVE])]
    async with opened(Response.of(*calls), "bye", gate=no_removal) as (rollout, agent):
        given = await agent.ask_model()
        agent.add(*[await agent.run(each) for each in given])
        await agent.ask_model()
    assert not rollout.trace[0].decisions
    decided = [(each.call, each.kind, each.by, each.way) for each in rollout.trace[1].decisions]
    assert decided == [
        ("call_0", "approve", "no_removal", "gate"),
        ("call_1", "reject", "no_removal", "gate"),
    ]


async def test_a_reported_bypass_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(CALL, "bye", gate=Gate({"*": Decision.approve()}, on_bypass="report")) as (_, agent):
        (call,) = await agent.ask_model()
        agent.add(agent.result(call, "done"))
        await agent.ask_model()
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "run (call_1) has a result" in record.getMessage()
    assert record.exc_info is None


ITEM: Json = {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "status": "completed"}
SHELL = Opaque("openai_responses", {**ITEM, "action": {"type": "exec", "command": ["rm"]}})


@pytest.mark.parametrize("asks", [True, False])
async def test_an_item_that_only_responses_has_goes_through_the_gate(asks: bool) -> None:
    seen: list[object] = []

    def policy(call: ToolCall, exchange: Exchange) -> Decision:
        seen.append((call.name, call.parsed()))
        return Decision.reject("no shell")

    body: Any = {
        "model": "m",
        "input": [{"role": "user", "content": "go"}],
        "tools": [{"type": "local_shell"}],
    }
    bypassed = False
    try:
        async with opened(Response.of(SHELL), "bye", gate=Gate(policy, on_bypass="end")) as (rollout, agent):
            url = url_of(rollout, "openai_responses")
            (item,) = (await agent._client.post(url, json=body)).json()["output"]
            text = "removed"
            if asks:
                question = {"tool": "shell", "arguments": {"command": "rm"}, "id": item["call_id"]}
                text = (await agent.ask_gate(question))["reason"]
            result = {"type": "local_shell_call_output", "id": item["call_id"], "output": text}
            body["input"] += [item, result]
            response = await agent._client.post(url, json=body)
            assert response.status_code == (200 if asks else 500)
            if not asks:
                await trio.sleep_forever()
    except GateBypassed:
        bypassed = True
    assert bypassed != asks
    assert seen == ([("local_shell", {"action": {"type": "exec", "command": ["rm"]}})] if asks else [])


EVENT = {"hook_event_name": "PreToolUse", "tool_name": "run", "tool_input": {"command": "ls"}}
WRONG: dict[str, list[Json]] = {
    "claude_code": [
        {**EVENT, "tool_name": 3},
        {**EVENT, "tool_use_id": ["call_1"]},
        {**EVENT, "hook_event_name": None},
        {**EVENT, "hook_event_name": "Stop"},
        {"hook_event_name": "PreToolUse"},
        [EVENT],
        "run",
        None,
    ],
    "copilot": [
        {"toolName": {}, "toolArgs": "{}"},
        {"toolName": "run"},
        {"toolName": "run", "toolArgs": "{}", "toolResult": "done"},
        3,
    ],
    "": [
        {"arguments": {}},
        {"tool": "run"},
        {"tool": None, "arguments": {}},
        {"tool": "run", "arguments": {}, "id": 1},
    ],
}


@pytest.mark.parametrize("hook", [*WRONG, "codex", "gemini_cli", "qwen_code", "opencode"])
async def test_a_question_of_another_form_is_refused_and_disturbs_nothing(hook: str) -> None:
    documents = WRONG.get(hook, WRONG["" if hook == "opencode" else "claude_code"])
    async with opened(CALL, "bye", gate={"*": Decision.approve()}) as (rollout, agent):
        (call,) = await agent.ask_model()
        for document in documents:
            url = f"{agent._gate}/{hook}" if hook else agent._gate
            response = await agent._client.post(url, json=document)
            assert response.status_code == 400
            assert "the body is not a question of the hook of" in response.text
            assert "KeyError" not in response.text
        agent.add(await agent.run(call))
        assert await agent.ask_model() == []
        assert agent.response.status_code == 200
    assert len(rollout.trace.services) == 2


async def test_a_field_that_is_missing_is_named() -> None:
    async with opened(CALL, gate={"*": Decision.approve()}) as (_, agent):
        assert "missing required field `tool`" in (await agent.ask_gate({"arguments": {}}))["reason"]


SEEDS = range(15)


@pytest.mark.parametrize("cheats", [False, True], ids=["honest", "one unasked call"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_honest_agent_is_accused_and_a_call_that_no_question_fits_is_noticed(
    seed: int, cheats: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Sub-agents at the same time, with few commands, ids that repeat or are renamed, and questions without ids."""
    draw = random.Random(seed)
    repeats, renames, with_ids = draw.random() < 0.5, draw.random() < 0.5, draw.random() < 0.5
    ids = count()

    async def model(exchange: Exchange) -> None:
        await trio.sleep(draw.random())
        said = sum(message.role == "assistant" for message in exchange.request.messages)
        commands = [draw.choice(["ls", "rm", "cat"]) for _ in range(draw.randrange(1, 4))]
        calls = [
            ToolCall("run", json.dumps({"command": command}), f"call_{at if repeats else next(ids)}")
            for at, command in enumerate(commands)
        ]
        await exchange.respond(Response.of(*calls) if said < 3 else "bye")

    ran: list[str] = []
    tool = Tool(name="run", parameters={"type": "object"})

    async def run(rollout: Rollout, name: str) -> None:
        gate = core_of_rollout(rollout).gate
        messages = [Message("user", name)]
        async with open_memory_agent(rollout, dialect="anthropic_messages") as memory:
            while True:
                asked = Request(
                    dialect="anthropic_messages", model="m", messages=tuple(messages), tools=(tool,)
                )
                answer = await memory.ask(asked)
                results: list[ToolResult] = []
                calls = answer.tool_calls
                for call in calls:
                    await trio.sleep(draw.random())
                    command = call.parsed()["command"]
                    if cheats and name == "0" and not ran.count("cheated"):
                        ran.append("cheated")
                        text = "done"
                    else:
                        question = Question("run", call.parsed(), call.id if with_ids else "")
                        decision: Any = await gate.ask(NEUTRAL, question)
                        ran.extend([command] * (decision["decision"] == "allow"))
                        text = decision.get("reason", "done")
                    results.append(ToolResult(id=call.id, content=(Text(text),)))
                if renames:
                    calls = tuple([replace(call, id=f"mine_{next(ids)}") for call in calls])
                    results = [
                        replace(result, id=call.id) for result, call in zip(results, calls, strict=True)
                    ]
                if not calls:
                    return
                messages += [Message("assistant", calls), Message("tool", tuple(results))]

    errors: list[GateBypassed] = []
    try:
        async with open_rollout(model, gate=Gate(no_removal, on_bypass="end")) as rollout:
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(run, rollout, str(number))
    except* (GateBypassed, UpstreamError) as group:
        errors = [each for each in leaves(group) if isinstance(each, GateBypassed)]
    assert "rm" not in ran
    assert bool(errors) == cheats
