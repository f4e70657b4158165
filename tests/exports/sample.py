"""A trace that has something of everything: tools, sub-agents, a compaction, failures, and what formats cannot say."""

from triocept import Message, Request, Response, Text, Tool, ToolCall, ToolResult, Trace, Turn, Usage
from triocept._trace.tokens import packed_floats, packed_ids
from triocept._trace.trace import TraceWriter
from triocept.traces import Branch, Conversation, Score, ServiceCall, Tokens, TurnError
from triocept.types import Blob, Media, Opaque, Reasoning, Sampling

SEARCH = Tool(
    name="search",
    description="Search the web for something, and give back what was found, one line for each page: "
    + "long " * 20,
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string", "const": "x"}, "many": {"type": ["integer", "null"]}},
        "required": ["query"],
    },
)
PATCH = Tool(name="patch", kind="custom", extra={"type": "custom"})
WEB = Tool(name="", kind="server", extra={"type": "web_search"})
TOOLS = (SEARCH, PATCH, WEB)

SYSTEM = Message("system", (Text("Be brief."), Text("Be kind.")))
TASK = Message("user", (Text("Find the file."), Media(kind="image", data="aGk=", media_type="image/png")))
CALLS = Response(
    (
        Reasoning("Where is it?", (Blob("anthropic_messages", "signature", "sig"),)),
        Text("I look."),
        ToolCall("search", '{"query":"file"}', "call_1"),
        ToolCall("patch", "*** Begin", "call_2", "text"),
        ToolCall("agent", '{"prompt":"SUBTASK: count all the files"}', "call_3"),
    ),
    usage=Usage(
        input_tokens=100, output_tokens=20, cached_tokens=60, cache_write_tokens=10, reasoning_tokens=5
    ),
    id="resp_1",
    model="model-1",
)
RESULTS = Message(
    "user",
    (
        ToolResult(id="call_1", content=(Text("No such file."),), is_error=True),
        ToolResult(id="call_2", content=(Text("Patched."), Opaque("anthropic_messages", {"type": "x"}))),
        ToolResult(id="call_3", content=(Text("It was started."),)),
        Text("Go on."),
    ),
)
SUMMARY = Response.of("<summary>The file was searched for, and patched.</summary>")
COMPACTED = Message("user", (Text("It goes on from: The file was searched for, and patched."),))
SUBTASK = Message("user", (Text("SUBTASK: count all the files"),))
MAIN, SIDE = Conversation(id="s"), Conversation(id="s", kind="side")
SUB = Conversation(id="s/1", parent="s", kind="sub_agent")


def said(response: Response) -> Message:
    return Message("assistant", tuple(response.content))


def turn(
    number: int,
    messages: tuple[Message, ...],
    response: Response | None,
    conversation: Conversation | None = MAIN,
    *,
    tools: tuple[Tool, ...] = TOOLS,
    tokens: Tokens | None = None,
    rollout: str = "r",
    status: int | None = 500,
) -> Turn:
    """One turn; without a response it has failed."""
    error = None if response is not None else TurnError(type="ValueError", message="no", status=status)
    return Turn(
        id=f"x{number}",
        rollout=rollout,
        run="run_1",
        number=number,
        dialect="anthropic_messages",
        agent="claude-cli/2.1.0 (external, cli)",
        request=Request(
            dialect="anthropic_messages",
            model="model-0",
            messages=messages,
            tools=tools,
            stream=True,
            sampling=Sampling(max_output_tokens=1000, temperature=0.5),
        ),
        outcome="answered" if response is not None else "failed",
        response=response,
        error=error,
        conversation=conversation,
        started_at=1000.0 + number,
        first_event=0.25 if response is not None else None,
        duration=0.5,
        notes={"reward": number} if number == 0 else {},
        tokens=tokens,
    )


def trace_of(*turns: Turn, rollout: str = "r", run: str = "run_1", sealed: bool = True) -> Trace:
    """A trace of these."""
    trace = Trace(rollout, run=run)
    writer = TraceWriter(trace)
    for each in turns:
        writer.add(each)
    if sealed:
        writer.seal()
    return trace


def sample() -> Trace:
    """A title, a main conversation that fails once and is compacted, a sub-agent, a service call and a score."""
    first = (SYSTEM, TASK)
    second = (*first, said(CALLS), RESULTS)
    asked = Message("user", (*RESULTS.content, Text("Summarise.")))
    counted = Response.of(ToolCall("search", '{"query":"*"}', "call_4"))
    results = Message("user", (ToolResult(id="call_4", content=(Text("3"),)),))
    turns = (
        turn(0, (Message("user", (Text("A title?"),)),), Response.of("Files"), SIDE, tools=()),
        turn(1, first, CALLS),
        turn(2, (SYSTEM, SUBTASK), counted, SUB),
        turn(3, second, None),
        turn(4, second, Response.of("Done.")),
        turn(5, (SYSTEM, SUBTASK, said(counted), results), Response.of("Three files."), SUB),
        turn(6, (*first, said(CALLS), asked), SUMMARY),
        turn(7, (SYSTEM, COMPACTED), Response.of("All done.")),
    )
    trace = trace_of(*turns, sealed=False)
    writer = TraceWriter(trace)
    call = ServiceCall(
        id="svc_1",
        rollout="r",
        run="run_1",
        number=0,
        kind="tool",
        name="lookup",
        arguments={"a": 1},
        outcome="answered",
        result="found",
        started_at=1001.6,
        duration=0.1,
    )
    writer.add(call)
    writer.seal()
    writer.add(Score(rollout="r", run="run_1", name="reward", value=0.5, at=2000.0))
    return trace


def tokens(prompt: list[int], completion: list[int]) -> Tokens:
    """What an engine read and sampled."""
    return Tokens(
        prompt=packed_ids(prompt),
        completion=packed_ids(completion),
        probabilities=packed_floats([-0.5] * len(completion)),
        engine="vllm",
        temperature=0.75,
        stop_included=True,
    )


def with_tokens(second: list[int]) -> Trace:
    """Two turns; the engine read [1, 2] and said [3, 4], then it read `second`."""
    one, other = Response.of("one"), Response.of("two")
    told = (Message("user", (Text("a"),)),)
    return trace_of(
        turn(0, told, one, tokens=tokens([1, 2], [3, 4])),
        turn(1, (*told, said(one), Message("user", (Text("b"),))), other, tokens=tokens(second, [8])),
    )


def child(parent: str = "r") -> Trace:
    """A child rollout of the sample."""
    trace = Trace("c", run="run_2", branch=Branch(rollout=parent, run="run_1", turns=1, service="svc_1"))
    writer = TraceWriter(trace)
    writer.add(turn(0, (SUBTASK,), Response.of("yes"), None, rollout="c"))
    writer.seal()
    return trace
