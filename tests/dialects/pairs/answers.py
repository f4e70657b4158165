"""What providers answer."""

from typing import Any

from triocept._canonical.content import Blob, Reasoning, RefusalText, Text, ToolCall
from triocept._canonical.request import Request, Tool
from triocept._canonical.response import Response, ResponsePart, Usage
from triocept.dialects import Failure
from triocept.dialects._failures import overflow_counts
from triocept.dialects.kit import OVERFLOW, decode_json

from .feature import Answer, Fault, Look, Word, changed_to
from .requests import LS

USAGE = Usage(
    input_tokens=100, output_tokens=50, cached_tokens=40, cache_write_tokens=20, reasoning_tokens=30
)
_BLOBS = {
    "anthropic_messages": ("signature", "sig"),
    "openai_responses": ("encrypted_content", "gAAAA"),
    "gemini": ("thought_signature", "c2ln"),
    "openai_chat": ("reasoning_details", '{"type":"reasoning.encrypted","data":"gAAAA"}'),
}


def signed(dialect: str, text: str = "hm") -> Reasoning | None:
    """Reasoning as a provider of this dialect signs it; None: it does not."""
    kind, data = _BLOBS.get(dialect, ("", ""))
    return Reasoning(text, (Blob(dialect, kind, data),)) if kind else None


def answered(
    name: str,
    look: Look,
    *parts: ResponsePart,
    word: Word = changed_to,
    group: str = "",
    fields: Any = (),
    note: str = "",
    **more: Any,
) -> Answer:
    """A feature of an answer of these parts."""
    return Answer(
        group or CONTENT,
        name,
        look,
        word,
        note,
        lambda dialect: Response(parts, dialect=dialect, **more),
        tuple(fields),
    )


def _own(name: str, look: Look, kind: Any, note: str = "", *, replayed: bool) -> Answer:
    """A feature of reasoning as each dialect signs it."""

    def make(dialect: str) -> Response | None:
        reasoning = kind(dialect)
        return reasoning and Response((reasoning, Text("so")), dialect=dialect)

    return Answer(CONTENT, name, look, changed_to, note, make, replayed=replayed)


def shape(response: Response) -> object:
    """The parts in their order, texts by their words."""
    return [getattr(part, "text", None) or getattr(part, "name", "?") for part in response.content]


def thought(response: Response) -> object:
    return "".join(part.text for part in response.content if isinstance(part, Reasoning)) or None


def calls(response: Response) -> object:
    return [(call.name, decode_json(call.arguments)) for call in response.tool_calls] or None


def free_text(response: Response) -> object:
    """The text of a call, in whichever form it comes."""
    found = next(iter(response.tool_calls), None)
    return found and (found.arguments if found.kind == "text" else found.parsed().get("input"))


def blobs(request: Request) -> object:
    """The blobs in the history that comes back."""
    parts = [part for message in request.messages for part in message.content if isinstance(part, Reasoning)]
    return [blob for part in parts for blob in part.blobs] or None


def refusal(response: Response) -> object:
    return next((type(p).__name__ for p in response.content if isinstance(p, Text | RefusalText)), None)


def counted(name: str) -> Look:
    return lambda response: response.usage and getattr(response.usage, name)


def stopped(
    name: str, stop: Any, *parts: ResponsePart, word: Word = lambda seen: f"`{seen}`", **more: Any
) -> Answer:
    return answered(
        name, lambda r: r.stopped, *(parts or (Text("a"),)), word=word, group=ENDS, stop_reason=stop, **more
    )


def usage(name: str, field: str) -> Answer:
    return answered(
        name,
        counted(field),
        Text("a"),
        group=NUMBERS,
        usage=USAGE,
        word=lambda seen: f"{seen}",
        fields=(("include_usage", True),),
    )


_SLOT = (
    "triocept puts these data into a field of the answer that agents of this dialect send back unchanged in their next "
    "request. Chat completions has no such field, so an upstream takes the data from the trace."
)
CONTENT, ENDS, NUMBERS = "Content", "Stop reasons", "Usage and names"
ANSWERS = [
    answered("text", lambda r: r.text or None, Text("so")),
    answered("text, a call, and text after it, in order", shape, Text("one"), ToolCall("ls", "{}", "call_1"),
     Text("two"), word=lambda _: "texts joined", fields=(("tools", (LS,)),),
     note="In chat completions, a whole answer can contain only one text."),
    answered("reasoning, separate from text", lambda r: (thought(r), r.text), Reasoning("hm"), Text("so"),
     word=lambda _: "lost"),
    _own("signed reasoning: its text", thought, signed, replayed=False),
    _own("signed reasoning: the signature, when the agent sends it back", blobs, signed, _SLOT,
     replayed=True),
    _own("encrypted reasoning, when the agent sends it back", blobs, lambda d: signed(d, ""), _SLOT,
     replayed=True),
    answered("text of a refusal", refusal, RefusalText("never"), word=lambda _: "a text"),
    answered("a call: name and arguments", calls, ToolCall("ls", '{"path":"/"}', "call_1"),
     fields=(("tools", (LS,)),)),
    answered("the id of a call", lambda r: next((c.id for c in r.tool_calls), None),
     ToolCall("ls", "{}", "call_1"), fields=(("tools", (LS,)),)),
    answered("parallel calls, in order", calls, ToolCall("ls", '{"a":1}', "call_1"),
     ToolCall("ls", '{"a":2}', "call_2"), fields=(("tools", (LS,)),)),
    answered("a call of a tool that takes free text",
     lambda r: next(((c.kind, c.arguments) for c in r.tool_calls), None),
     ToolCall("patch", "*** x", "call_1", "text"), fields=(("tools", (Tool(name="patch", kind="custom"),)),),
     word=lambda seen: f"JSON, `{seen[1]}`"),
    answered("a call of such a tool, from a provider with functions only", free_text,
     ToolCall("patch", '{"input":"*** x"}', "call_1"),
     fields=(("tools", (Tool(name="patch", kind="custom"),)),)),
    answered("arguments that are not JSON", lambda r: next((c.arguments for c in r.tool_calls), None),
     ToolCall("ls", '{"path": ', "call_1"), fields=(("tools", (LS,)),)),
    answered("fields and parts that exist only in its own dialect", lambda r: (r.extra or {}).get("x_own"),
     Text("a"), extra={"x_own": True},
     note="Clients validate the answers that they get, and an unknown field could make the validation "
          "fail."),
    stopped("the model was done", "end"),
    stopped("tool calls", "tool_use", ToolCall("ls", "{}", "call_1"), fields=(("tools", (LS,)),)),
    stopped("a stop string", "stop_sequence", stop_sequence="END"),
    answered("the stop string that was written", lambda r: r.stop_sequence, Text("a"), group=ENDS,
     stop_reason="stop_sequence", stop_sequence="END"),
    stopped("the limit of output tokens", "max_tokens"),
    stopped("the context is full", "context_full"),
    stopped("refused, or filtered", "refused"),
    stopped("refused, with a text", "refused", RefusalText("never")),
    stopped("a provider's own tool loop must be resumed", "paused"),
    usage("input tokens", "input_tokens"),
    usage("output tokens", "output_tokens"),
    usage("input tokens read from a cache", "cached_tokens"),
    usage("input tokens written to a cache", "cache_write_tokens"),
    usage("output tokens of reasoning", "reasoning_tokens"),
    answered("the answer's id", lambda r: r.id or None, Text("a"), group=NUMBERS, id="answer_1"),
    answered("the model's name", lambda r: r.model or None, Text("a"), group=NUMBERS, model="m-2"),
]  # fmt: skip


def fault(name: str, look: Look, note: str = "", **fields: Any) -> Fault:
    """A feature of an error."""
    return Fault(FAILURES, name, look, changed_to, note, lambda _: Failure(**fields))


FAILURES = "Errors"
FAULTS = [
    fault("the status", lambda f: f.status, status=503, message="no capacity"),
    fault("the message", lambda f: f.message, status=503, message="no capacity"),
    fault("a prompt too long for the context, as the agent's own error", lambda f: f.code, status=400,
     message="prompt is too long: 9000 tokens > 8000 maximum", code=OVERFLOW),
    fault("the number of tokens in the prompt, and the maximum", lambda f: overflow_counts(f.message),
     status=400, message="prompt is too long: 9000 tokens > 8000 maximum", code=OVERFLOW),
]  # fmt: skip
