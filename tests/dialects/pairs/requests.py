"""What agents ask, beside the conversation: tools, sampling, shapes, efforts."""

from collections.abc import Callable
from typing import Any

from triocept._canonical.content import Json, Message, Text
from triocept._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice

from .feature import Ask, Look, Word, changed_to

HI = (Message("user", (Text("hi"),)),)
CONSTRAINED: dict[str, Json] = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "path": {"type": "string", "pattern": "^/", "minLength": 1},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "node": {"$ref": "#/$defs/node"},
    },
    "required": ["count"],
    "additionalProperties": False,
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}
LS = Tool(name="ls", description="List files.", parameters={"type": "object", "properties": {}})
SHAPE: dict[str, Json] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def ask(
    group: str,
    name: str,
    look: Look,
    word: Word = changed_to,
    only: str | None = None,
    note: str = "",
    **fields: Any,
) -> Ask:
    """A feature that these fields of a request are; `only`: the one dialect that has it."""

    def make(dialect: str) -> Request | None:
        if only not in (None, dialect) or (dialect == "openai_completions" and "tools" in fields):
            return None
        return Request(**{"dialect": dialect, "model": "m", "messages": HI, **fields})

    return Ask(group, name, look, word, note, make)


def _sampled(name: str, field: str, value: object, word: Word = changed_to, note: str = "") -> Ask:
    def look(request: Request) -> object:
        found = getattr(request.sampling, field)
        return None if found in (None, ()) else found

    return ask(SAMPLING, name, look, word, note=note, sampling=Sampling(**{field: value}))


def _tool(look: Callable[[Tool], object]) -> Look:
    return lambda request: look(request.tools[0]) if request.tools else None


def _own_tool(request: Request) -> object:
    return any(tool.kind == "server" for tool in request.tools) or None


_SEARCH: dict[str, dict[str, Json]] = {
    "openai_chat": {"type": "web_search"},
    "openai_responses": {"type": "web_search"},
    "anthropic_messages": {"type": "web_search_20250305", "name": "web_search"},
    "gemini": {"googleSearch": {}},
}


def _searching(dialect: str) -> Request | None:
    if dialect not in _SEARCH:
        return None
    offered = (LS, Tool(name="", kind="server", extra=_SEARCH[dialect]))
    return Request(dialect=dialect, model="m", messages=HI, tools=offered)


def _choice(request: Request) -> object:
    choice = request.tool_choice
    if not request.tools:  # then none is called
        return ("none", None)
    return choice and (choice.mode, choice.name)


def _asked(request: Request) -> object:
    wish = request.reasoning
    return wish and (wish.effort, wish.budget_tokens)


def _effort(seen: tuple[str | None, int | None]) -> str:
    effort, budget = seen
    return f"effort {effort}" if budget is None else f"{budget:,} tokens"


def _shape(request: Request) -> object:
    wish = request.output_format
    if wish is None:
        return "as text in the prompt" if "JSON" in request.system else None
    return (wish.kind, wish.schema)


TOOLS, SAMPLING, WISHES = "Tools", "Sampling", "Other options"
REQUESTS = [
    ask(TOOLS, "a tool: name, description, schema", _tool(lambda t: (t.name, t.description, t.parameters)),
     tools=(LS,)),
    *(ask(TOOLS, name, _tool(lambda tool: tool.name), lambda _: "another name",
      tools=(Tool(name=tool, parameters=SHAPE),),
      note="In the answer, the agent gets the tool's original name.") for name,
     tool in (("a name with a dot", "files.read"), ("a name of more than 64 characters", "mcp__" * 13))),
    ask(TOOLS, "constraints of a schema (enum, pattern, `$ref`, …)", _tool(lambda t: t.parameters),
     tools=(Tool(name="ls", parameters=CONSTRAINED),)),
    ask(TOOLS, "a schema with alternatives at its top (`anyOf`)", _tool(lambda tool: tool.parameters),
     lambda _: "one object of all of them",
     tools=(Tool(name="ls", parameters={"type": "object", "anyOf": [SHAPE, {**SHAPE, "required": []}]}),),
     note="Servers of the dialect Messages refuse such schemas."),
    ask(TOOLS, "a strict schema", _tool(lambda t: t.strict or None),
     tools=(Tool(name="ls", parameters=SHAPE, strict=True),),
     note="Anthropic limits the number and the forms of strict schemas in a request more than OpenAI, and "
          "refuses a request beyond these limits with 400."),
    ask(TOOLS, "a schema that is not strict", _tool(lambda t: bool(t.strict)),
     tools=(Tool(name="ls", parameters=SHAPE, strict=False),)),
    ask(TOOLS, "a tool that takes free text", _tool(lambda tool: (tool.kind, tool.description)),
     lambda seen: f"a function of one text{'' if seen[1] else ', not described'}",
     tools=(Tool(name="patch", kind="custom", description="Patch."),)),
    Ask(TOOLS, "a tool that the provider runs itself (web search)", _own_tool, make=_searching,
     note="The provider itself runs such a tool, and each dialect describes the tool in a different form."),
    *(ask(TOOLS, f"choice of tools: {name}", _choice, lambda seen: " ".join(filter(None, seen)), tools=(LS,),
      tool_choice=choice) for name,
     choice in (("auto", ToolChoice(mode="auto")), ("none", ToolChoice(mode="none")),
      ("required", ToolChoice(mode="required")), ("one by name", ToolChoice(mode="tool", name="ls")))),
    ask(TOOLS, "no calls in parallel", lambda r: r.parallel_tool_calls, tools=(LS,),
     parallel_tool_calls=False, note="Gemini has no option that forbids calls in parallel."),
    _sampled("limit of output tokens", "max_output_tokens", 7),
    ask(SAMPLING, "no limit of output tokens", lambda r: r.sampling.max_output_tokens or "none",
     lambda seen: f"a limit of {seen:,}"),
    _sampled("temperature 0.5", "temperature", 0.5),
    _sampled("temperature 1.5", "temperature", 1.5, lambda seen: f"{seen}"),
    _sampled("`top_p`", "top_p", 0.9),
    _sampled("`top_k`", "top_k", 40),
    _sampled("stop strings", "stop", ("END", "\n\n"), lambda seen: "without blank ones",
     "Servers of the dialect Messages refuse blank stop strings. Responses has no field for stop strings."),
    _sampled("seed", "seed", 1),
    _sampled("presence penalty", "presence_penalty", 0.5),
    _sampled("frequency penalty", "frequency_penalty", 0.5),
    ask(WISHES, "reasoning effort: high", _asked, _effort, reasoning=ReasoningAsk(effort="high")),
    ask(WISHES, "reasoning effort: none", _asked, _effort, reasoning=ReasoningAsk(effort="none"),
     note="In Messages, a model reasons only if the request demands it, so triocept omits this option. Most "
          "models of Gemini refuse the option."),
    ask(WISHES, "reasoning: the model decides how much", _asked, _effort,
     reasoning=ReasoningAsk(effort="adaptive"),
     note="In chat, completions and Responses, this is the default, so no option is needed. In Messages, only "
          "the newest models accept the option."),
    ask(WISHES, "reasoning budget: 4,096 tokens", _asked, _effort,
     reasoning=ReasoningAsk(budget_tokens=4096)),
    ask(WISHES, "answer in JSON", _shape, str, output_format=OutputFormat(kind="json_object")),
    ask(WISHES, "answer by a JSON schema", _shape,
     output_format=OutputFormat(kind="json_schema", name="a", schema=SHAPE)),
    ask(WISHES, "name of the JSON schema", lambda r: r.output_format and r.output_format.name,
     lambda seen: f'"{seen}"', output_format=OutputFormat(kind="json_schema", name="a", schema=SHAPE)),
    ask(WISHES, "the JSON schema is strict", lambda r: r.output_format and r.output_format.strict,
     output_format=OutputFormat(kind="json_schema", name="a", schema=SHAPE, strict=True),
     note="Messages and Gemini have no such option, because their answers always follow a given schema."),
    ask(WISHES, "a streamed answer", lambda r: r.stream or None, stream=True),
    ask(WISHES, "usage at the end of a stream", lambda r: r.include_usage or None, stream=True),
    ask(WISHES, "the user", lambda r: r.user, user="somebody"),
    ask(WISHES, "the user, in more than 64 characters", lambda r: r.user, user="u" * 65,
     note="OpenAI refuses a user name with more than 64 characters."),
    ask(WISHES, "fields that exist only in its own dialect", lambda r: (r.extra or {}).get("x_own"),
     extra={"x_own": True}, note="A provider refuses a request with fields that it does not know."),
]  # fmt: skip
