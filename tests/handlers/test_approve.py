"""Tool calls that are decided before the agent gets them, in each dialect."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from triocept import (
    Exchange,
    Limits,
    Message,
    Refusal,
    Request,
    Response,
    Text,
    Tool,
    ToolCall,
    UpstreamError,
    Usage,
)
from triocept.dialects import known_dialects
from triocept.errors import DialectError
from triocept.exports import Losses, flat_rows
from triocept.handlers import Decision, approve, ask_terminal, read_policy
from triocept.testing import MemoryAgent, open_memory_agent, open_rollout
from triocept.types import Json, Opaque, ToolResult

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")
TOOLS = tuple(Tool(name=name, parameters={"type": "object", "properties": {}}) for name in ("run", "read"))

Answers = Callable[[Request], Response]


def call(name: str = "run", **arguments: object) -> ToolCall:
    return ToolCall.of(name, **arguments)


class Model:
    """A scripted model that keeps its requests, and checks that a provider would accept them."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        check_history(exchange.request)
        await exchange.respond(self.answers.pop(0))


def check_history(request: Request) -> None:
    """Check that every call has one result, before the model's next message, on every wire that has tools."""
    open_calls: list[str] = []
    for message in request.messages:
        if message.role == "assistant":
            assert not open_calls, f"calls without a result: {open_calls}"
        open_calls += [part.id for part in message.tool_calls]
        for result in message.tool_results:
            assert result.id in open_calls, "a result without a call"
            open_calls.remove(result.id)
    assert not open_calls, f"calls without a result: {open_calls}"
    for check in (check_chat, check_messages, check_responses, check_gemini):
        check(request)


def document(request: Request, dialect: str) -> dict[str, Any]:
    return known_dialects()[dialect].render_request(request)


def check_chat(request: Request) -> None:
    waiting: list[str] = []
    for message in document(request, "openai_chat")["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = [each["id"] for each in message.get("tool_calls", ())]
    assert not waiting


def check_messages(request: Request) -> None:
    """Check the rule of Anthropic: all results come first in the very next user message, and roles alternate."""
    waiting: list[str] = []
    last = None
    for message in document(request, "anthropic_messages")["messages"]:
        assert message["role"] != last
        last = message["role"]
        blocks = message["content"] if isinstance(message["content"], list) else []
        kinds = [block["type"] for block in blocks]
        if last == "user":
            results = kinds.count("tool_result")
            assert kinds[:results] == ["tool_result"] * results
            assert sorted(block["tool_use_id"] for block in blocks[:results]) == sorted(waiting)
            waiting = []
        else:
            waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert not waiting


def check_responses(request: Request) -> None:
    calls: list[str] = []
    for item in document(request, "openai_responses")["input"]:
        if item.get("type") == "function_call":
            calls.append(item["call_id"])
        elif item.get("type") == "function_call_output":
            calls.remove(item["call_id"])
    assert not calls


def check_gemini(request: Request) -> None:
    """Check the rule of Gemini: the next content has as many responses as the content has calls."""
    waiting, last = 0, None
    for content in document(request, "gemini")["contents"]:
        assert content["role"] != last
        last = content["role"]
        parts = content["parts"]
        if last == "user":
            assert sum("functionResponse" in part for part in parts) == waiting
        waiting = sum("functionCall" in part for part in parts)
    assert not waiting


class Agent:
    """An agent that runs its tools until the model calls none."""

    def __init__(self, agent: MemoryAgent) -> None:
        self._agent = agent
        self.messages: list[Message] = []
        self.ran: list[ToolCall] = []

    async def ask(self, text: str, *, stream: bool) -> str:
        self.messages.append(Message("user", (Text(text),)))
        while True:
            request = Request(
                dialect=self._agent.dialect.name,
                model="m",
                messages=tuple(self.messages),
                tools=TOOLS,
                stream=stream,
            )
            answer = await self._agent.ask(request, stream=stream)
            self.messages.append(Message("assistant", answer.content))
            if not answer.tool_calls:
                return answer.text
            self.ran += answer.tool_calls
            self.messages.append(
                Message(
                    "tool",
                    tuple(
                        ToolResult(id=each.id, content=(Text("ok"),), name=each.name)
                        for each in answer.tool_calls
                    ),
                )
            )


POLICY = {"read": Decision.approve(), "run": Decision.reject("no shell")}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_rejected_call_never_runs_and_the_model_still_knows_ten_turns_later(
    dialect: str, stream: bool
) -> None:
    later = [Response.of(f"turn {number}") for number in range(10)]
    model = Model(Response.of("I run it.", call(command="rm")), Response.of("Then not."), *later)
    async with open_memory_agent(approve(model, POLICY), dialect=dialect) as memory:
        agent = Agent(memory)
        assert await agent.ask("clean up", stream=stream) == "I run it.\n\nThen not."
        for number in range(10):
            assert await agent.ask(f"more {number}", stream=stream) == f"turn {number}"
        trace = memory.rollout.trace
    assert not agent.ran
    for request in model.requests[1:]:
        assert [result.is_error for message in request.messages for result in message.tool_results] == [True]
        assert "no shell" in "".join(r.text for m in request.messages for r in m.tool_results)
        assert "".join(m.text for m in request.messages).count("I run it.") == 1
    assert len(trace) == 11
    (decided,) = trace[0].decisions
    assert (decided.tool, decided.kind, decided.reason, decided.way) == (
        "run",
        "reject",
        "no shell",
        "answer",
    )
    (draft,) = trace[0].drafts
    assert (draft.why, draft.counted) == ("approve", True)
    assert draft.response is not None
    assert draft.response.tool_calls[0].name == "run"
    assert trace.usage.output_tokens > trace[0].response.usage.output_tokens
    assert not any(turn.drafts for turn in trace[1:])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_of_two_calls_the_approved_one_runs_and_the_model_gets_both_results(
    dialect: str, stream: bool
) -> None:
    model = Model(
        Response.of("Both.", call("read", path="a"), call("run", command="rm"), call("read", path="b")),
        Response.of("done"),
        Response.of("again"),
    )
    async with open_memory_agent(approve(model, POLICY), dialect=dialect) as memory:
        agent = Agent(memory)
        assert await agent.ask("go", stream=stream) == "done"
        assert await agent.ask("more", stream=stream) == "again"
        trace = memory.rollout.trace
    assert [each.parsed() for each in agent.ran] == [{"path": "a"}, {"path": "b"}]
    for request in model.requests[1:]:
        results = [result for message in request.messages for result in message.tool_results]
        assert sorted(result.is_error for result in results) == [False, False, True]
    assert [len(turn.drafts) for turn in trace] == [1, 0, 0]
    assert not trace[0].drafts[0].counted
    assert [each.kind for each in trace[0].decisions] == ["approve", "reject", "approve"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_modified_call_runs_as_modified(dialect: str) -> None:
    model = Model(Response.of(call(command="rm -rf /")), Response.of("done"))
    handler = approve(model, {"*": Decision.modify({"command": "ls"}, by="a person")})
    async with open_memory_agent(handler, dialect=dialect) as memory:
        agent = Agent(memory)
        await agent.ask("go", stream=True)
        (first, _) = memory.rollout.trace
    assert [each.parsed() for each in agent.ran] == [{"command": "ls"}]
    assert first.decisions[0].arguments == '{"command":"ls"}'
    assert first.decisions[0].by == "a person"
    assert first.drafts[0].response is not None
    assert first.drafts[0].response.tool_calls[0].parsed() == {"command": "rm -rf /"}


async def test_an_answer_in_place_of_the_models_reaches_the_agent() -> None:
    model = Model(Response.of(call(command="rm")))
    async with open_memory_agent(approve(model, {"*": Decision.answer("Stop here.")})) as memory:
        assert await Agent(memory).ask("go", stream=True) == "Stop here."
        (turn,) = memory.rollout.trace
    assert turn.response is not None
    assert turn.response.stop_reason == "end"


async def test_terminate_ends_the_rollout_with_the_reason() -> None:
    model = Model(Response.of(call(command="rm")))
    async with open_memory_agent(approve(model, {"*": Decision.terminate("it wants to delete")})) as memory:
        with pytest.raises(UpstreamError, match="it wants to delete"):
            await Agent(memory).ask("go", stream=False)
        with trio.fail_after(30):
            await memory.rollout.wait_stopped() if hasattr(memory.rollout, "wait_stopped") else None
        assert memory.rollout.trace.stopped == "it wants to delete"


async def test_a_model_that_only_proposes_rejected_calls_is_stopped_after_eight() -> None:
    model = Model(*(Response.of(call(command=f"{number}")) for number in range(20)))
    async with open_memory_agent(approve(model, POLICY)) as memory:
        with pytest.raises(UpstreamError, match="8 answers of the model in a row"):
            await Agent(memory).ask("go", stream=False)
        (turn,) = memory.rollout.trace
    assert len(model.requests) == 8
    assert len(turn.drafts) == len(turn.decisions) == 8


async def test_hidden_calls_count_in_the_limits() -> None:
    model = Model(*(Response.of(call(command=f"{number}")) for number in range(20)))
    async with open_memory_agent(approve(model, POLICY), limits=Limits(turns=3)) as memory:
        with pytest.raises(UpstreamError, match="limit of 3 turns"):
            await Agent(memory).ask("go", stream=False)
    assert len(model.requests) == 3


async def test_twenty_calls_are_decided_in_any_order(autojump_clock: trio.testing.MockClock) -> None:
    draw = random.Random(7)
    order: list[int] = []

    async def policy(proposed: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep(draw.random())
        number = proposed.parsed()["number"]
        order.append(number)
        return Decision.approve() if number % 3 else Decision.reject("a third")

    calls = [call(number=number) for number in range(20)]
    model = Model(Response.of(*calls), Response.of("done"))
    async with open_memory_agent(approve(model, policy)) as memory:
        agent = Agent(memory)
        await agent.ask("go", stream=True)
    assert order != sorted(order)
    assert [each.parsed()["number"] for each in agent.ran] == [n for n in range(20) if n % 3]


@pytest.mark.parametrize("text", ["", "Let me see."], ids=["before text", "after text"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_person_may_take_ten_minutes(
    dialect: str, stream: bool, text: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(proposed: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep(600)
        return Decision.approve()

    first = Response.of(text, call(command="ls")) if text else Response.of(call(command="ls"))
    model = Model(first, Response.of("done"))
    async with open_memory_agent(approve(model, slow), dialect=dialect, timeout=60) as memory:
        agent = Agent(memory)
        assert await agent.ask("go", stream=stream) == "done"
        assert memory.calls[0].longest_silence < 60
        assert memory.rollout.trace[0].duration > 599


async def test_a_time_out_rejects_with_its_own_reason(autojump_clock: trio.testing.MockClock) -> None:
    async def never(proposed: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep_forever()
        raise AssertionError

    model = Model(Response.of(call(command="ls")), Response.of("done"))
    async with open_memory_agent(approve(model, never, timeout=5)) as memory:
        await Agent(memory).ask("go", stream=False)
        (decided,) = memory.rollout.trace[0].decisions
    assert (decided.kind, decided.by) == ("reject", "timeout")
    assert decided.reason == "no decision within 5 seconds"


async def test_a_policy_that_is_not_async_is_rejected_after_the_time_out_too(
    mock_clock: trio.testing.MockClock,
) -> None:
    def slow(proposed: ToolCall, exchange: Exchange) -> Decision:
        mock_clock.jump(6)
        return Decision.approve()

    model = Model(Response.of(call(command="ls")), Response.of("done"))
    async with open_memory_agent(approve(model, slow, timeout=5)) as memory:
        agent = Agent(memory)
        await agent.ask("go", stream=False)
        (decided,) = memory.rollout.trace[0].decisions
    assert not agent.ran
    assert (decided.kind, decided.reason) == ("reject", "no decision within 5 seconds")


@pytest.mark.parametrize("policy", [{"reads": Decision.reject(), "*": Decision.approve()}, POLICY])
async def test_a_mistyped_tool_beside_a_pattern_is_logged_once(
    policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model(Response.of(call("read")), Response.of(call("read")), Response.of("done"))
    async with open_memory_agent(approve(model, policy)) as memory:
        await Agent(memory).ask("go", stream=False)
    logged = [record.getMessage() for record in caplog.records]
    expected = "the policy names tools that the agent's requests do not offer: 'reads'; did you mean read?"
    assert logged == ([expected] if "reads" in policy else [])


async def test_a_hang_up_cancels_a_pending_decision(autojump_clock: trio.testing.MockClock) -> None:
    cancelled = trio.Event()

    async def waits(proposed: ToolCall, exchange: Exchange) -> Decision:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with open_memory_agent(approve(Model(Response.of(call())), waits)) as memory:
        with trio.move_on_after(1):
            await Agent(memory).ask("go", stream=True)
        with trio.fail_after(30):
            await cancelled.wait()
            while not memory.rollout.trace:
                await trio.sleep(0.01)
        assert memory.rollout.trace[0].outcome == "abandoned"


class Failing(Exception):
    pass


def raises(proposed: ToolCall, exchange: Exchange) -> Decision:
    raise Failing("the policy failed")


def nonsense(proposed: ToolCall, exchange: Exchange) -> Decision:
    return "yes"  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("policy", "error", "words"),
    [
        (raises, Failing, "the policy failed"),
        (nonsense, TypeError, "nonsense` returned str.*Decision.approve"),
    ],
)
async def test_a_policy_that_fails_runs_nothing_and_is_raised(
    policy: Callable[[ToolCall, Exchange], Decision], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        async with open_memory_agent(approve(Model(Response.of(call())), policy)) as memory:
            with pytest.raises(UpstreamError) as caught:
                await Agent(memory).ask("go", stream=False)
            assert caught.value.status == 500


async def test_escalation_goes_on_and_ends_in_a_rejection() -> None:
    asked: list[str] = []

    def first(proposed: ToolCall, exchange: Exchange) -> Decision:
        asked.append("first")
        return Decision.escalate()

    async def second(proposed: ToolCall, exchange: Exchange) -> Decision:
        asked.append("second")
        return Decision.escalate() if proposed.name == "run" else Decision.approve()

    model = Model(Response.of(call("read"), call("run")), Response.of("done"))
    async with open_memory_agent(approve(model, [first, {"r*": second}])) as memory:
        await Agent(memory).ask("go", stream=False)
        decided = memory.rollout.trace[0].decisions
    assert [(each.kind, each.by) for each in decided] == [("approve", "second"), ("reject", "default")]
    assert sorted(asked) == ["first", "first", "second", "second"]


async def test_raw_bytes_are_refused_because_they_could_hold_a_call() -> None:
    async def raw(exchange: Exchange) -> None:
        await exchange.respond_raw(200, {"content-type": "application/json"}, b'{"choices": []}')

    async with open_memory_agent(approve(raw, POLICY)) as memory:
        with pytest.raises(UpstreamError, match="raw bytes"):
            await memory.ask("go")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({}, "the policy must not be empty"),
        ([], "the policy must not be an empty list"),
        ({"run": "yes"}, r"the policy\['run'\] must be a function policy\(call, exchange\).*not str"),
        ({1: Decision.approve()}, "a key must be the name of a tool or a pattern, not int"),
        (lambda only: None, "the policy must be a function policy"),
    ],
)
def test_what_is_no_policy_is_an_error_that_names_the_place(policy: object, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        approve(Model(), policy)  # type: ignore[arg-type]


proposals = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from(["run", "read"]), max_size=3)), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(turns=proposals, dialect=st.sampled_from(DIALECTS), stream=st.booleans())
def test_any_run_of_proposals_keeps_the_history_complete(
    turns: list[tuple[bool, list[str]]], dialect: str, stream: bool
) -> None:
    ids = count()
    answers = [
        Response.of(*(["text"] if text else []), *(call(name, n=next(ids)) for name in names))
        for text, names in turns
        if text or names
    ]
    model = Model(*answers, *(Response.of("end") for _ in range(30)))

    async def run() -> None:
        with trio.fail_after(20):
            async with open_memory_agent(approve(model, POLICY), dialect=dialect) as memory:
                agent = Agent(memory)
                for _ in range(3):
                    await agent.ask("go", stream=stream)
                assert all(each.name == "read" for each in agent.ran)

    trio.run(run)


FILE = """\
read: approve
run: {reject: not this one}
"mcp__*": {modify: {path: .}}
"*": {terminate: unknown tool}
"""


async def test_a_policy_file_decides_by_tool(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(FILE)
    policy = read_policy(tmp_path / "policy.yaml")
    model = Model(Response.of(call("read"), call("run"), call("mcp__files", path="/")), Response.of("done"))
    async with open_memory_agent(approve(model, policy)) as memory:
        agent = Agent(memory)
        await agent.ask("go", stream=False)
        decided = memory.rollout.trace[0].decisions
    assert [(each.kind, each.reason) for each in decided] == [
        ("approve", ""),
        ("reject", "not this one"),
        ("modify", ""),
    ]
    assert agent.ran[1].parsed() == {"path": "."}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "policy.yaml:1: a policy must be a mapping"),
        ("{}", "at least one tool"),
        ("a: yes please", "policy.yaml:1: a: unknown decision 'yes please'"),
        ("a: approve\nb: {reject: 3}", "policy.yaml:2: b.*text"),
        ("a: {reject: no, answer: x}", "a decision has one key, not 2"),
    ],
)
def test_a_mistake_in_a_policy_file_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(DialectError, match=words):
        read_policy(tmp_path / "policy.yaml")


async def test_a_person_at_the_terminal_decides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = 'what?\ny\nn\ntoo dangerous\ne\n{\ne\n[1]\ne\n{"path": "."}\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    model = Model(
        Response.of(call("read", path="\x1b[2J")), Response.of(call("run")), Response.of(call("read"))
    )
    model.answers.append(Response.of("done"))
    async with open_memory_agent(approve(model, {"*": ask_terminal})) as memory:
        agent = Agent(memory)
        await agent.ask("go", stream=False)
        kinds = [each.kind for turn in memory.rollout.trace for each in turn.decisions]
    assert kinds == ["approve", "reject", "modify"]
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.count("the arguments must be a JSON object") == 2


async def test_the_terminal_hides_no_part_of_a_call_and_refuses_an_ambiguous_edit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('e\n{"a":1,"a":2}\ne\n{"a":1e999}\ny\n'))
    command = f"ls{' ' * 3200}; rm b\ufe01\u2800\u200d❤\ufe0f"
    model = Model(Response.of(call("run", path=command)), Response.of("done"))
    async with open_memory_agent(approve(model, {"*": ask_terminal})) as memory:
        await Agent(memory).ask("go", stream=False)
    shown = capsys.readouterr().err
    assert r"ls⟨3200 spaces⟩; rm b\ufe01\u2800\u200d❤" in shown
    assert "'a' is defined twice" in shown
    assert "values that JSON permits" in shown


async def test_a_terminal_without_anybody_is_a_clear_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(EOFError, match="standard input has ended"):
        async with open_memory_agent(approve(Model(Response.of(call())), {"*": ask_terminal})) as memory:
            with pytest.raises(UpstreamError):
                await Agent(memory).ask("go", stream=False)


async def test_a_model_that_numbers_its_calls_anew_does_not_mix_two_agents_up() -> None:
    seen: dict[str, Request] = {}

    async def model(exchange: Exchange) -> None:
        who = exchange.request.messages[0].text
        seen[who] = exchange.request
        if any(message.role == "assistant" for message in exchange.request.messages):
            await exchange.respond("done")
        else:
            own = ToolCall("run" if who == "one" else "read", '{"n":1}', "call_0")
            await exchange.respond(Response.of(own, ToolCall("read", '{"n":2}', "call_1")))

    async with open_rollout(approve(model, POLICY)) as rollout:
        for who in ("one", "two"):
            async with open_memory_agent(rollout) as memory:
                await Agent(memory).ask(who, stream=False)
    names = [part.name for message in seen["two"].messages for part in message.tool_calls]
    assert names == ["read", "read"]
    assert not any(result.is_error for message in seen["two"].messages for result in message.tool_results)


async def test_what_was_proposed_is_recorded_even_if_it_was_never_decided() -> None:
    def down(proposed: ToolCall, exchange: Exchange) -> Decision:
        raise Refusal(503, "the policy service is down")

    async with open_memory_agent(approve(Model(Response.of(call(command="rm"))), down)) as memory:
        with pytest.raises(UpstreamError, match="is down"):
            await Agent(memory).ask("go", stream=False)
        (turn,) = memory.rollout.trace
    assert turn.outcome == "refused"
    assert turn.drafts[0].response is not None
    assert turn.drafts[0].response.tool_calls[0].name == "run"


async def test_tokens_of_rejected_answers_count_at_once_and_only_once() -> None:
    answers = [
        msgspec.structs.replace(Response.of(call(n=number)), usage=Usage(input_tokens=100, output_tokens=10))
        for number in range(20)
    ]
    model = Model(*answers)
    async with open_memory_agent(approve(model, POLICY), limits=Limits(total_tokens=250)) as memory:
        with pytest.raises(UpstreamError, match="limit of 250 tokens"):
            await Agent(memory).ask("go", stream=True)
        usage = memory.rollout.trace.usage
    assert len(model.requests) == 2
    assert (usage.input_tokens, usage.output_tokens) == (200, 20)


@pytest.mark.parametrize("make", [lambda: Decision.reject(None), lambda: Decision.approve(by=3)])  # type: ignore[arg-type]
def test_a_decision_takes_texts_alone(make: Callable[[], Decision]) -> None:
    with pytest.raises(TypeError, match="must be a text, not"):
        make()


async def test_arguments_that_are_no_object_are_a_clear_fault() -> None:
    with pytest.raises(TypeError, match="the arguments of run must be a JSON object, not 'ls'"):
        async with open_memory_agent(
            approve(Model(Response.of(call())), {"*": Decision.modify("ls")})
        ) as memory:
            with pytest.raises(UpstreamError):
                await Agent(memory).ask("go", stream=False)


async def test_an_agent_may_strip_white_space_and_rename_calls() -> None:
    model = Model(
        Response.of(call(command="rm")),
        Response.of("fine\n", call("read"), call("run")),
        Response.of("end"),
    )
    async with open_memory_agent(approve(model, POLICY)) as memory:
        first = Message("user", (Text("go"),))
        answer = await memory.ask([first])
        renamed = ToolCall(answer.tool_calls[0].name, answer.tool_calls[0].arguments, "mine")
        again = Message("assistant", (Text(answer.text.strip()), renamed))
        await memory.ask([first, again, Message("tool", (ToolResult(id="mine", content=(Text("ok"),)),))])
    results = [result for message in model.requests[2].messages for result in message.tool_results]
    assert [result.is_error for result in results] == [True, False, True]


async def test_every_export_counts_the_decisions_and_answers_that_it_leaves_out() -> None:
    model = Model(Response.of(call(command="rm")), Response.of("done"))
    async with open_memory_agent(approve(model, POLICY)) as memory:
        await Agent(memory).ask("go", stream=False)
        trace = memory.rollout.trace
    losses = Losses()
    list(flat_rows(trace, losses))
    assert "1 decision about a tool call" in str(losses)
    assert "1 answer that the agent did not get" in str(losses)


@pytest.mark.parametrize("kind", ["deny", "rejected", "Reject", ["approve"]])
def test_a_decision_of_an_unknown_kind_is_an_error_and_approves_nothing(kind: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^kind must be "):
        Decision(kind=kind)


LOCAL_SHELL: Json = {
    "type": "local_shell_call",
    "action": {"type": "exec", "command": ["rm", "x"], "env": {}},
}
SHELL: Json = {"type": "shell_call", "action": {"commands": ["rm x"]}}
PATCH: Json = {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "x"}}
COMPUTER: Json = {"type": "computer_call", "action": {"type": "click", "x": 1, "y": 1}}
SEARCH: Json = {"type": "tool_search_call", "arguments": {"query": "x"}, "execution": "client"}


def item(raw: Json) -> Opaque:
    """A call that only the Responses dialect has."""
    return Opaque("openai_responses", {"id": "lsh_1", "call_id": "call_1", "status": "completed", **raw})


def items(response: Response) -> list[Json]:
    return [part.raw for part in response.content if isinstance(part, Opaque)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("raw", [LOCAL_SHELL, SHELL, PATCH], ids=["local_shell", "shell", "apply_patch"])
async def test_a_rejected_item_of_responses_never_runs_and_the_model_gets_the_reason(
    raw: Json, stream: bool
) -> None:
    model = Model(Response.of("I run it.", item(raw)), Response.of("Then not."), Response.of("later"))
    policy = {"*": Decision.reject("no shell")}
    async with open_memory_agent(approve(model, policy), dialect="openai_responses") as memory:
        agent = Agent(memory)
        assert await agent.ask("go", stream=stream) == "I run it.\n\nThen not."
        assert await agent.ask("more", stream=stream) == "later"
        (decided,) = memory.rollout.trace[0].decisions
    assert not any(items(Response(message.content)) for message in agent.messages)
    assert (decided.call, f"{decided.tool}_call") == ("call_1", raw["type"])
    for request in model.requests[1:]:
        sent = document(request, "openai_responses")["input"]
        places = {each["type"]: number for number, each in enumerate(sent)}
        result = sent[places[f"{raw['type']}_output"]]
        assert places[f"{raw['type']}_output"] == places[raw["type"]] + 1
        assert "no shell" in str(result)
        assert "call_1" in (result.get("call_id"), result.get("id"))


async def test_an_item_of_responses_is_approved_or_modified_beside_a_rejected_call() -> None:
    seen: list[Json] = []

    def policy(proposed: ToolCall, exchange: Exchange) -> Decision:
        seen.append(proposed.parsed())
        if proposed.name == "shell":
            return Decision.modify({"action": {"commands": ["ls"]}})
        return Decision.reject("no shell") if proposed.name == "run" else Decision.approve()

    model = Model(Response.of(item(PATCH), call("run"), item(SHELL), item(SEARCH)), Response.of("done"))
    async with open_memory_agent(approve(model, policy), dialect="openai_responses") as memory:
        answer = await memory.ask("go", stream=True)
        decisions = memory.rollout.trace[0].decisions
    patch, shell, search = items(answer)
    assert not answer.tool_calls
    assert patch["operation"] == PATCH["operation"]
    assert (shell["call_id"], shell["action"]) == ("call_1", {"commands": ["ls"]})
    assert search["arguments"] == {"query": "x"}
    assert seen[0] == {"operation": PATCH["operation"]}
    assert [each.tool for each in decisions] == ["apply_patch", "run", "shell", "tool_search"]


async def test_a_rejected_search_for_tools_finds_none() -> None:
    model = Model(Response.of("I search.", item(SEARCH)), Response.of("done"))
    async with open_memory_agent(approve(model, POLICY), dialect="openai_responses") as memory:
        assert (await memory.ask("go")).text.endswith("done")
    *_, result = document(model.requests[1], "openai_responses")["input"]
    assert (result["type"], result["call_id"], result["tools"]) == ("tool_search_output", "call_1", [])


async def test_a_rejected_item_whose_result_is_a_screenshot_is_refused() -> None:
    handler = approve(Model(Response.of(item(COMPUTER))), {"*": Decision.reject("no screen")})
    async with open_memory_agent(handler, dialect="openai_responses") as memory:
        with pytest.raises(UpstreamError, match="rejected: no screen") as caught:
            await memory.ask("go")
    assert caught.value.status == 403


@pytest.mark.parametrize("raw", [{"type": "web_search_call"}, {**SEARCH, "execution": "server"}])
async def test_an_item_that_the_provider_runs_is_not_decided(raw: Json) -> None:
    found = item(raw)
    handler = approve(Model(Response.of(found, "found")), {"*": Decision.reject()})
    async with open_memory_agent(handler, dialect="openai_responses") as memory:
        answer = await memory.ask("go")
        assert not memory.rollout.trace[0].decisions
    assert [each["type"] for each in items(answer)] == [raw["type"]]
