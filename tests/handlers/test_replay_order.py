"""An agent whose sub-agent runs beside, and pushes its end into whichever call comes next, is replayed in its order."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import bearer, url_of
from triocept import Exchange, Handler, Rollout, ScriptedModel, ToolCall, Trace, serve_endpoint
from triocept.errors import ReplayMiss
from triocept.handlers import Replay

TASK = "SUBTASK: count the files"
ENDED = "There are twelve files in it."


@dataclass
class Team:
    """A main conversation that begins a sub-agent, works for so many seconds, and says what it was told meanwhile."""

    rollout: Rollout
    works: float
    pushed: list[str] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            history = [user("go")]
            told = await self.ask(history)
            while told:
                history.append({"role": "assistant", "content": told})
                results = []
                for call in (block for block in told if block["type"] == "tool_use"):
                    if call["name"] == "Agent":
                        nursery.start_soon(self.help, call["input"]["prompt"])
                    else:
                        await trio.sleep(self.works)
                    results.append({"type": "tool_result", "tool_use_id": call["id"], "content": "fine"})
                if not results and not self.pushed:
                    await self.news.wait()
                news = [{"type": "text", "text": text} for text in self.pushed]
                self.pushed.clear()
                history.append({"role": "user", "content": [*results, *news]})
                told = await self.ask(history)
                if ENDED in str(history) and not any(block["type"] == "tool_use" for block in told):
                    break

    async def help(self, task: str) -> None:
        told = await self.ask([user(task)], agent="helper")
        self.pushed.append(f"<ended>{told[0]['text']}</ended>")
        self.news.set()

    async def ask(self, messages: list[Any], agent: str | None = None) -> list[Any]:
        tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("Agent", "Work")]
        headers = bearer(self.rollout) | {"x-claude-code-session-id": "s"}
        if agent is not None:
            headers["x-claude-code-agent-id"] = agent
        async with httpx2.AsyncClient(timeout=None, verify=False) as client:
            answer = await client.post(
                url_of(self.rollout, "anthropic_messages"),
                json={"model": "m", "max_tokens": 9, "messages": messages, "tools": tools},
                headers=headers,
            )
        answer.raise_for_status()
        content: list[Any] = answer.json()["content"]
        return content


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Model:
    """Lets the main conversation begin a helper, and work once; the helper takes so many seconds."""

    def __init__(self, takes: float) -> None:
        self._main = ScriptedModel([ToolCall.of("Agent", prompt=TASK), ToolCall.of("Work"), *["So."] * 3])
        self._takes = takes

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.conversation.kind == "sub_agent":
            await trio.sleep(self._takes)
            await exchange.respond(ENDED)
        else:
            await self._main(exchange)


async def play(handler: Handler, works: float) -> Trace:
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            await Team(rollout, works).run()
    return rollout.trace


def told_at(trace: Trace) -> int:
    """Which call of the main conversation was told of the end."""
    main = [turn for turn in trace if trace.conversations[turn.id].kind == "main"]
    return next(
        number for number, turn in enumerate(main) if any(ENDED in m.text for m in turn.request.messages)
    )


@pytest.mark.parametrize("works", [0, 0.3])
@pytest.mark.parametrize(("takes", "worked", "told"), [(0.1, 1.0, 2), (1.0, 0.1, 3)])
async def test_an_end_is_pushed_into_the_call_that_it_was_pushed_into(
    takes: float, worked: float, told: int, works: float
) -> None:
    """However fast the tools of the agent are now."""
    trace = await play(Model(takes), worked)
    assert told_at(trace) == told
    again = await play(Replay(trace), works)
    assert told_at(again) == told
    assert {turn.notes["replay"]["turn"] for turn in again} == {turn.id for turn in trace}
    assert [turn.id for turn in again if "not_waited_for" in turn.notes["replay"]] == []


async def test_without_its_order_the_same_run_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = await play(Model(0.1), 1.0)
    monkeypatch.setattr(
        "triocept._recording.replay.handler.Order", lambda record: SimpleNamespace(launches={}, waits={})
    )
    monkeypatch.setattr("triocept._recording.replay.handler.MOMENT", 0)
    with pytest.raises(ReplayMiss, match="There are twelve files"):
        await play(Replay(trace, timing=3), 0)


async def test_a_fork_waits_for_nothing_that_does_not_come_and_leaves_the_sub_agent_to_the_record() -> None:
    trace = await play(Model(1.0), 0.1)
    again = await play(Replay(trace, until=1, then=ScriptedModel(["Otherwise.", "Done."])), 0.1)
    answers = {turn.response.text: turn for turn in again if turn.response is not None}
    assert answers[ENDED].notes["replay"].keys() == {"rollout", "turn"}, "it waits for no more"
    assert answers["Otherwise."].notes["replay"]["turn"] == answers["Done."].notes["replay"]["fork"]
    assert any(ENDED in message.text for message in answers["Done."].request.messages)


async def test_what_does_not_come_is_waited_for_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent begins no helper any more: its tool is another."""
    monkeypatch.setattr("triocept._recording.replay.handler.PATIENCE", 0.2)
    trace = await play(Model(0.1), 1.0)
    traces: list[Trace] = []

    async def begin_none(team: Team, task: str) -> None:
        traces.append(team.rollout.trace)
        await trio.sleep_forever()

    monkeypatch.setattr(Team, "help", begin_none)
    with pytest.raises(ReplayMiss, match="There are twelve files"):
        await play(Replay(trace), 0)
    waited = [turn.notes.get("replay", {}).get("not_waited_for") for turn in traces[0]]
    helper = next(turn.id for turn in trace if trace.conversations[turn.id].kind == "sub_agent")
    assert waited == [None, [helper], None]
