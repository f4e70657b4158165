"""What a program hands on to another process, or copies, comes out as it was."""

import copy
import inspect
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import triocept
from triocept import (
    AgentFailed,
    AgentResult,
    DialectError,
    EndpointLimits,
    JSONLRecorder,
    Limits,
    Message,
    Refusal,
    Request,
    Response,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Trace,
    TrioceptError,
    Turn,
    UpstreamError,
    Usage,
    errors,
    read_traces,
)
from triocept._trace.trace import TraceWriter
from triocept.errors import LimitReached
from triocept.traces import Branch, Conversation, RecorderGroup, ServiceCall, Tokens, TurnError
from triocept.tunnels import TunnelHealth
from triocept.types import (
    Blob,
    ClientConfig,
    HostTool,
    Media,
    Opaque,
    OutputFormat,
    PartBlob,
    PartDelta,
    PartEnd,
    PartStart,
    Price,
    Reasoning,
    ReasoningAsk,
    RefusalText,
    ResponseEnd,
    ResponseStart,
    Sampling,
    ToolChoice,
)


class OutOfCredit(Refusal):
    """A program's own, whose `__init__` takes something else."""

    def __init__(self, *, missing: int) -> None:
        super().__init__(402, f"{missing} credits are missing", code="credit", headers={"X-Credit": "0"})
        self.missing = missing


WITH_ARGUMENTS: list[TrioceptError] = [
    DialectError("no", path="messages[3]"),
    Refusal(429, "wait", retry_after=1.5, should_retry=True, code="slow", headers={"X-A": "b"}),
    LimitReached("10 turns", status=403),
    AgentFailed("it returned 3", argv=("claude", "-p"), returncode=3),
    errors.FleetLost("no worker is left", unfinished=("a", {"id": 2})),
    errors.GroupStopped("group 3 was stopped before sample 1 had ended"),
    errors.RemoteError("odd", type="mine.Odd"),
    OutOfCredit(missing=7),
    *(
        kind(
            "no", status=529, body="{}", headers={"a": "b"}, code="c", dialect="d", upstream="u", rollout="r"
        )
        for kind in (UpstreamError, triocept.errors.UpstreamTruncated, triocept.errors.ContextLengthError)
    ),
]
ERRORS = [
    *WITH_ARGUMENTS,
    *(
        getattr(errors, name)("no")
        for name in errors.__all__
        if getattr(errors, name) not in {type(each) for each in WITH_ARGUMENTS}
    ),
]


async def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


MESSAGE = Message(
    "user",
    (
        Text("a", {"cache_control": {"type": "ephemeral"}}),
        ToolResult(id="c", content=(Text("b"),)),
        Media(kind="image", data="iVBORw0=", media_type="image/png"),
    ),
)
BLOB = Blob("anthropic_messages", "signature", "s")
TOOL = Tool(name="t", description="d", parameters={"type": "object"})
REQUEST = Request(dialect="openai_chat", model="m", messages=(MESSAGE,), tools=(TOOL,))
RESPONSE = Response.of("hm", ToolCall.of("t", a=[1, None, True]))
BRANCH = Branch(rollout="parent", turns=1, service="s")
ERROR = TurnError(type="Refusal", message="no", status=429)
TOKENS = Tokens(prompt=b"\x01\0\0\0", completion=b"\x02\0\0\0", probabilities=b"\0\0\0\0", engine="vllm")
TURN = Turn(
    id="x",
    rollout="r",
    number=0,
    dialect="openai_chat",
    request=REQUEST,
    outcome="answered",
    response=RESPONSE,
    conversation=Conversation(id="c", parent="p", kind="sub_agent"),
    started_at=1.5,
    duration=0.25,
    branch=BRANCH,
    notes={"score": 1, "of": [{}]},
    tokens=TOKENS,
)
CALL = ServiceCall(
    id="s",
    rollout="r",
    number=0,
    kind="tool",
    name="t",
    outcome="failed",
    error=ERROR,
    started_at=1,
    duration=2,
)
PRICE = Price(input=1, output=2)
STRUCTS: list[msgspec.Struct] = [
    *(MESSAGE, *MESSAGE.content, TOOL, REQUEST, RESPONSE, *RESPONSE.content, BRANCH, ERROR, TOKENS, TURN,
     CALL),
    *(Conversation(id="c"), Usage(input_tokens=1, output_tokens=2, estimated=True)),
    *(Reasoning("why", (BLOB,)), RefusalText("no"), Opaque("gemini", {"a": 1})),
    *(Sampling(temperature=0.5), ToolChoice(mode="tool", name="t"), ReasoningAsk(effort="high"),
     OutputFormat(kind="json_object")),
    *(ResponseStart(id="r", model="m"), PartStart(0, Text("")), PartDelta(0, "a"), PartEnd(0), ResponseEnd()),
    *(BLOB, PartBlob(0, BLOB)),
    *(EndpointLimits(connections=3), TunnelHealth()),
    *(PRICE, Limits(turns=3, cost=1.5, prices={"*": PRICE})),
    ClientConfig(base_url="http://x", api_key="k", model="m"),
    AgentResult(argv=("a",), returncode=-9, duration=1.5, stdout=b"o", stderr=b"e", stderr_tail="e"),
]  # fmt: skip

WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {protocol}": lambda each, protocol=protocol: pickle.loads(pickle.dumps(each, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def trace() -> Trace:
    parent = Trace("parent", prices={"*": PRICE})
    writer = TraceWriter(parent)
    writer.stop("enough")
    child = TraceWriter(Trace("r", branch=BRANCH))
    writer.add_child(child.trace)
    child.add(TURN)
    child.add(msgspec.structs.replace(TURN, id="y", number=1))
    child.add(CALL)
    child.seal()
    return parent


def looks(error: BaseException) -> tuple[object, ...]:
    return type(error), str(error), error.args, vars(error)


def fail_with(error: BaseException) -> None:
    raise error


def write(recorder: JSONLRecorder, turn: Turn) -> tuple[int, Turn]:
    async def main() -> None:
        await recorder.record(turn)
        await recorder.aclose()

    trio.run(main)
    return os.getpid(), turn


def test_every_public_noun_is_tried_here() -> None:
    public = {
        each
        for name in triocept.__all__
        if inspect.isclass(each := getattr(triocept, name)) and issubclass(each, msgspec.Struct)
    }
    assert public <= {HostTool, *(type(each) for each in STRUCTS)}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_error_keeps_its_attributes_and_its_text(way: Callable[[Any], Any]) -> None:
    for error in ERRORS:
        error.add_note("seen on the way")
        again = way(error)
        assert looks(again) == looks(error)
        assert again is not error


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_noun_is_equal_to_its_copy(way: Callable[[Any], Any]) -> None:
    for each in STRUCTS:
        assert way(each) == each


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_tool_is_the_same_function_and_the_same_schema(way: Callable[[Any], Any]) -> None:
    tool = HostTool.of(add, name="plus", timeout=1.5)
    again = way(tool)
    assert (again.tool, again.timeout, again.function) == (tool.tool, tool.timeout, tool.function)
    assert again.bind({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(Refusal):
        again.bind({"a": "1", "b": 2})


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_trace_is_equal_to_its_copy_and_as_sealed(way: Callable[[Any], Any]) -> None:
    parent = trace()
    again = way(parent)
    assert again == parent
    assert repr(again) == repr(parent)
    assert again.stopped == parent.stopped
    assert again.cost == pytest.approx(parent.cost, rel=0.01)  # of turns without a usage: an estimate
    (child,) = again.children
    assert child.sealed
    assert child.parents == parent.children[0].parents
    with pytest.raises(RuntimeError, match="sealed"):
        TraceWriter(child).add(TURN)


def test_traces_are_equal_by_what_they_hold() -> None:
    one, other = trace(), trace()
    assert one == other
    assert one != "a trace"
    other.children[0]._turns._turns.pop()
    assert one != other
    assert Trace("r") != Trace("q")
    assert Trace("r") != Trace("r", branch=BRANCH)


def test_a_pool_of_processes_survives_every_error_and_hands_on_what_it_is_given(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    file = tmp_path / "t.jsonl"
    recorder = JSONLRecorder(file)
    write(recorder, TURN)
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        for error in ERRORS:
            raised = pool.submit(fail_with, error).exception(timeout=60)
            assert raised is not None
            assert looks(raised) == looks(error)
        theirs = msgspec.structs.replace(TURN, run="another")
        process, turn = pool.submit(write, recorder, theirs).result(timeout=60)
        assert pool.submit(copy.copy, trace()).result(timeout=60) == trace()
    assert process != os.getpid()
    assert turn == theirs
    assert [len(each) for each in read_traces(file)] == [1, 1]


def test_the_copy_of_a_recorder_writes_to_its_path_and_not_to_a_descriptor_that_was_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.txt"

    async def main() -> None:
        recorder = JSONLRecorder("t.jsonl", fsync=True)
        await recorder.record(TURN)
        pickled = pickle.dumps(RecorderGroup([recorder]))
        await recorder.aclose()
        with other.open("wb"):  # the kernel gives it the lowest number that is free: the recorder's
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            copied = pickle.loads(pickled)
            await copied.record(msgspec.structs.replace(TURN, run="another"))
            await copied.aclose()

    trio.run(main)
    assert other.read_bytes() == b""
    assert [len(each) for each in read_traces(tmp_path / "t.jsonl")] == [1, 1]
