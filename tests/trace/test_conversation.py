"""Whose call it is: as agents say it in their headers, else by the messages."""

from typing import Any

import httpx2
import pytest
import trio

from tests.asking import ask_body, bearer, url_of
from triocept import Exchange, Response, ToolCall, Trace, serve_endpoint
from triocept.traces import Conversation

TOOLS = [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]

SAID: dict[str, tuple[dict[str, str], dict[str, Any], Conversation]] = {
    "claude code": ({"x-claude-code-session-id": "s"}, {"tools": TOOLS}, Conversation(id="s")),
    "a sub-agent of claude code": ({"x-claude-code-session-id": "s", "x-claude-code-agent-id": "a"},
     {"tools": TOOLS}, Conversation(id="s/a", parent="s", kind="sub_agent")),
    "a title of opencode": ({"x-session-id": "s"}, {}, Conversation(id="s", kind="side")),
    "a sub-agent of opencode": ({"x-session-id": "s", "x-parent-session-id": "p"}, {"tools": TOOLS},
     Conversation(id="s", parent="p", kind="sub_agent")),
    "codex": ({"thread-id": "t", "session-id": "s"}, {"tools": TOOLS}, Conversation(id="t")),
    "a sub-agent of codex": ({"thread-id": "t", "session-id": "p"},
     {"tools": TOOLS, "client_metadata": {"x-codex-parent-thread-id": "p"}},
     Conversation(id="t", parent="p", kind="sub_agent")),
    "a warm-up of codex": ({"thread-id": "t"}, {"tools": TOOLS, "generate": False},
     Conversation(id="t", kind="side")),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "more", "expected"), SAID.values(), ids=SAID.keys())
async def test_an_agent_says_whose_call_it_is(
    headers: dict[str, str], more: dict[str, Any], expected: Conversation
) -> None:
    seen: list[Conversation] = []

    async def look(exchange: Exchange) -> None:
        seen.append(exchange.conversation)
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout) | headers) as client:
            await client.post(url_of(rollout), json=ask_body("hi", **more))
    assert seen == [expected]
    assert rollout.trace[0].conversation == expected
    assert rollout.trace.conversations == {rollout.trace[0].id: expected}


async def test_who_says_nothing_is_told_apart_by_the_messages() -> None:
    kinds: list[str] = []

    async def look(exchange: Exchange) -> None:
        kinds.append(exchange.conversation.kind)
        await exchange.respond("ok")

    def said(*texts: str) -> list[dict[str, str]]:
        return [
            {"role": "assistant" if place % 2 else "user", "content": text}
            for place, text in enumerate(texts)
        ]

    bodies = [
        {"messages": said("task"), "tools": TOOLS},
        {"messages": said("title of task?")},
        {"messages": said("task", "ok", "go on"), "tools": TOOLS},
        {"messages": said("a task of its own"), "tools": TOOLS},
        {"messages": said("a task of its own", "ok", "more"), "tools": TOOLS},
    ]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            for body in bodies:
                await client.post(url_of(rollout), json={"model": "m", **body})
    assert kinds == ["main", "side", "main", "sub_agent", "sub_agent"]
    of = [rollout.trace.conversations[turn.id] for turn in rollout.trace]
    assert [conversation.kind for conversation in of] == kinds
    assert of[2] == of[0]
    assert of[4] == of[3] != of[0]


async def test_what_is_said_again_after_a_refusal_is_the_same_conversation() -> None:
    kinds: list[str] = []

    async def refuse_once(exchange: Exchange) -> None:
        kinds.append(exchange.conversation.kind)
        if len(kinds) == 1:
            await exchange.refuse(429, "not yet", retry_after=0)
        else:
            await exchange.respond("ok")

    task = {"model": "m", "messages": [{"role": "user", "content": "task"}], "tools": TOOLS}
    async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse_once) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            for _ in range(3):
                await client.post(url_of(rollout), json=task)
    assert kinds == ["main", "main", "sub_agent"], "the third says again what was answered: it begins anew"
    refused, again, anew = (rollout.trace.conversations[turn.id] for turn in rollout.trace)
    assert refused == again != anew


# Agents that say nothing and change what they were told. The documents are those of real packages, shortened.

CALLED = ToolCall("weather", '{"city": "Oslo"}', "call_6092b8fe")
FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
WEATHER = {"tools": [{"type": "function", "function": FUNCTION}]}
SYSTEM = {"role": "system", "content": "You help."}
USER = {"role": "user", "content": "tools"}


def gemini(*contents: dict[str, Any]) -> dict[str, Any]:
    return {
        "contents": [{"parts": [{"text": "tools"}], "role": "user"}, *contents],
        "systemInstruction": {"parts": [{"text": "You help."}]},
        "tools": [{"functionDeclarations": [FUNCTION]}],
    }


def gemini_turns(call: dict[str, Any], output: str) -> list[dict[str, Any]]:
    called = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, **call}
    result = {"functionResponse": {"name": "weather", "response": {output: "sun in Oslo"}}}
    told = [{"role": "model", "parts": [{"text": "I look."}, called]}, {"role": "user", "parts": [result]}]
    done = [{"role": "model", "parts": [{"text": "done"}]}, {"role": "user", "parts": [{"text": "again"}]}]
    return [gemini(), gemini(*told), gemini(*told, *done)]


NAMED: dict[str, Any] = {
    "role": "assistant",
    "name": "boss",
    "content": "I look.",
    "tool_calls": [
        {"id": CALLED.id, "type": "function", "function": {"name": "weather", "arguments": CALLED.arguments}}
    ],
}
SIGNATURE = {"thoughtSignature": "skip_thought_signature_validator"}
TOLD = "I look.\nCalling tools:\n[{'id': 'call_6092b8fe', 'type': 'function', 'function': {'name': 'weather', …}}]"
REWRITERS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "langchain 1 with langchain-openai 1.7, an agent with a name": (
        "openai_chat",
        [
            {**WEATHER, "messages": [SYSTEM, USER, *more]}
            for result in [{"role": "tool", "tool_call_id": CALLED.id, "content": "sun in Oslo"}]
            for done in [{"role": "assistant", "name": "boss", "content": "done"}]
            for more in ([], [NAMED, result], [NAMED, result, done, {"role": "user", "content": "again"}])
        ],
    ),
    "langchain-google-genai 4.4": ("gemini", gemini_turns(SIGNATURE, "output")),
    "agno 3.1": ("gemini", gemini_turns({}, "result")),
    "smolagents 1.26": (
        "openai_chat",
        [
            {**WEATHER, "messages": [SYSTEM, USER, *more]}
            for told in [{"role": "assistant", "content": [{"type": "text", "text": TOLD}]}]
            for result in [
                {"role": "user", "content": [{"type": "text", "text": "Observation:\nsun in Oslo"}]}
            ]
            for more in ([], [told, result], [told, result, told, result])
        ],
    ),
}


@pytest.mark.parametrize(("dialect", "bodies"), REWRITERS.values(), ids=REWRITERS.keys())
async def test_each_turn_continues_the_one_before_whatever_the_agent_makes_of_its_answer(
    dialect: str, bodies: list[dict[str, Any]]
) -> None:
    live: list[Conversation] = []

    async def call_then_end(exchange: Exchange) -> None:
        live.append(exchange.conversation)
        await exchange.respond(Response.of("I look.", CALLED) if len(live) == 1 else "done")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(call_then_end) as rollout:
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            for body in bodies:
                url = url_of(rollout)
                if dialect == "gemini":
                    url = f"{rollout.base_url('gemini')}/v1beta/models/m:generateContent"
                answer = await client.post(url, json={"model": "m", **body})
                answer.raise_for_status()
    trace = rollout.trace
    assert list(trace.parents.values()) == [None, trace[0].id, trace[1].id]
    assert [tuple(turn.id for turn in thread) for thread in trace.threads] == [tuple(t.id for t in trace)]
    assert set(trace.conversations.values()) == {Conversation(id=trace[0].id)} == set(live)


async def kinds_of(*calls: dict[str, Any]) -> tuple[list[str], list[str], Trace]:
    """Kinds as they are told while the call waits, and in the end. `headers` of a call are none of its document."""
    live: list[str] = []

    async def look(exchange: Exchange) -> None:
        live.append(exchange.conversation.kind)
        await exchange.respond("ok")

    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
            async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                for call in calls:
                    body = {name: value for name, value in call.items() if name != "headers"}
                    await client.post(
                        url_of(rollout), json={"model": "m", **body}, headers=call.get("headers", {})
                    )
    return live, [each.kind for each in rollout.trace.conversations.values()], rollout.trace


def asks(system: str, user: str, *more: str, **fields: Any) -> dict[str, Any]:
    """A call: what the system prompt and the user say, and in turn the assistant and the user."""
    said = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    said += [{"role": ("assistant", "user")[n % 2], "content": text} for n, text in enumerate(more)]
    return {"messages": said, **fields}


async def test_where_no_call_has_tools_none_is_a_side_call() -> None:
    question = (
        "[[ ## question ## ]]\ntools\n\n[[ ## trajectory ## ]]\n{}\n\nRespond with the fields `next_thought`"
    )
    live, kinds, trace = await kinds_of(  # dspy.ReAct, of DSPy 3.4
        asks("Your output fields are `next_thought`", question.format("")),
        asks("Your output fields are `next_thought`", question.format("[[ ## thought_0 ## ]]\nlook")),
        asks("Your output fields are `answer`", question.format("[[ ## thought_0 ## ]]\nlook")),
    )
    assert live == kinds == ["main", "main", "main"]
    one, same, other = trace.conversations.values()
    assert one == same != other


async def test_a_first_call_without_tools_is_the_main_one_if_it_is_gone_on_with() -> None:
    live, kinds, trace = await kinds_of(  # inspect_ai: `generate`, then `use_tools`
        asks("You help.", "tools"),
        asks("You help.", "tools", "ok", "go on", tools=TOOLS),
        asks("Write a title.", "tools"),
    )
    assert live == kinds == ["main", "main", "side"]
    assert trace.parents[trace[1].id] == trace[0].id


async def test_a_title_that_is_asked_for_behind_the_task_is_a_side_call() -> None:
    title = asks("You help.", "task")
    title["messages"].append({"role": "user", "content": "Write a title."})
    live, kinds, _ = await kinds_of(asks("You help.", "task", tools=TOOLS), title)
    assert live == kinds == ["main", "side"]


async def test_a_title_that_comes_first_is_a_side_call_once_the_agent_has_shown_its_tools() -> None:
    live, kinds, _ = await kinds_of(
        asks("Write a title.", "task"),
        asks("You help.", "task", tools=TOOLS),
        asks("You look.", "a part of the task", tools=TOOLS),
    )
    assert live == ["main", "main", "sub_agent"]
    assert kinds == ["side", "main", "sub_agent"]


async def test_sub_agents_of_one_family_stay_apart() -> None:
    family = {"prompt_cache_key": "f", "tools": TOOLS}
    sub = {**family, "headers": {"x-interaction-type": "conversation-subagent", "x-initiator": "agent"}}
    _, kinds, trace = await kinds_of(  # as Copilot CLI: one key for all
        asks("You help.", "task", **family),
        asks("You look.", "one", **sub),
        asks("You look.", "two", **sub),
        asks("You look.", "one", "ok", "result", **sub),
        asks("You help.", "task", "ok", "both", **family),
        asks("You help.", "task", "ok", "a fork", **sub),
    )
    assert kinds == ["main", "sub_agent", "sub_agent", "sub_agent", "main", "sub_agent"]
    of = list(trace.conversations.values())
    assert (of[3], of[4]) == (of[1], of[0])
    assert len({each.id for each in of}) == 4
    assert trace[1].conversation == Conversation(id="", kind="sub_agent"), "the agent names no conversation"


async def test_another_family_is_another_conversation() -> None:
    _, kinds, trace = await kinds_of(
        asks("You help.", "task", tools=TOOLS, prompt_cache_key="f"),
        asks("You help.", "task", "in other words", "go on", tools=TOOLS, prompt_cache_key="g"),
        asks("You help.", "task", "ok", "go on", tools=TOOLS),
    )
    assert kinds == ["main", "sub_agent", "main"]
    assert trace.conversations[trace[0].id] != trace.conversations[trace[1].id]


@pytest.mark.parametrize(("asked", "kind"), [("complexity_reasoning", "side"), ("city", "main")])
async def test_of_first_calls_for_an_object_only_the_router_of_gemini_cli_is_a_side_call(
    asked: str, kind: str
) -> None:
    schema = {"type": "OBJECT", "properties": {asked: {"type": "STRING"}}, "required": [asked]}
    how = {"responseMimeType": "application/json", "responseJsonSchema": schema}
    live: list[str] = []

    async def look(exchange: Exchange) -> None:
        live.append(exchange.conversation.kind)
        await exchange.respond("{}")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
        url = f"{rollout.base_url('gemini')}/v1beta/models/m:generateContent"
        async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
            asks = {"contents": [{"role": "user", "parts": [{"text": "task"}]}], "generationConfig": how}
            (await client.post(url, json=asks)).raise_for_status()
    assert live == [kind]
