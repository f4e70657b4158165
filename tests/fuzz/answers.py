"""Answers that a program might give: any parts, and any text in them."""

import re
from random import Random
from typing import Any, TypeAlias

import msgspec

from triocept import Response, Text, ToolCall, Usage
from triocept._canonical.response import ResponsePart
from triocept.types import Reasoning, RefusalText

from .kind import Unfit

Said: TypeAlias = tuple[str, list[tuple[str, str]]]
"""The text of an answer, and its calls: names and arguments."""

TEXTS = [
    *("hi", "", "a b", " ", "\n", "é😀\u2028", "\0", "\x1b[31m", "a\ud800", "\udc00b", "\ud83d\ude00",
     "\ud83d", "x" * 300),
    *("data: {}\n\n", "[DONE]", "\r\n\r\n", "<think>", "\ufeff", "\udcff", "null"),
]  # fmt: skip
ARGUMENTS = [
    *("{}", '{"a":1}', "", "not JSON", '{"cut": ', "[1]", '"text"', "null", '{"a":"\ud800"}', '{"a":1e999}',
     " {} "),
    *('{"a":99999999999999999999999}', '{"a":1,"a":2}', "[" * 300 + "]" * 300, '{"_raw":"x"}', '{"a":NaN}',
     "\0"),
]  # fmt: skip
STOPS = [None, None, "end", "max_tokens", "refused", "context_full", "tool_use", "stop_sequence", "paused"]


def any_answer(random: Random) -> Any:
    """An answer, as a JSON value."""
    parts: list[list[str]] = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        match random.randrange(8):
            case 0 | 1 | 2 | 3:
                parts.append(["text", random.choice(TEXTS) + random.choice(TEXTS)])
            case 4:
                parts.append(["reasoning", random.choice(TEXTS)])
            case 5 | 6:
                name = random.choice(("ls", "get_weather", "é", "a.b", "x" * 80))
                parts.append(
                    ["call", name, random.choice(ARGUMENTS), random.choice(("", "call_1", "a b", "\ud800"))]
                )
            case _:
                parts.append(["refusal", random.choice(TEXTS)])
    usage = [random.choice((0, 1, 10**6)) for _ in range(2)] if random.random() < 0.4 else None
    return {"parts": parts, "stop": random.choice(STOPS), "usage": usage}


def answer_of(value: Any) -> Response:
    """The answer that a JSON value stands for."""
    try:
        parts = tuple(_part(*part) for part in value["parts"])
        usage = value["usage"] and Usage(input_tokens=value["usage"][0], output_tokens=value["usage"][1])
        if value["stop"] not in STOPS:
            raise Unfit
        return Response(parts, stop_reason=value["stop"], usage=usage or None)
    except (TypeError, KeyError, IndexError, ValueError) as exc:
        raise Unfit from exc


def _part(kind: str, text: str, *more: str) -> ResponsePart:
    if not all(isinstance(each, str) for each in (text, *more)):
        raise Unfit
    match kind:
        case "text":
            return Text(text)
        case "reasoning":
            return Reasoning(text)
        case "call":
            return ToolCall(text, *more)
        case "refusal":
            return RefusalText(text)
    raise Unfit


def spoken(text: str) -> str:
    """The text as any wire can hold it."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return re.sub("[\ud800-\udfff]", "\ufffd", joined)


def essence(response: Response) -> Any:
    """What must be the same, streamed or whole: ids are made anew, JSON may be spaced otherwise."""
    content = [
        msgspec.structs.replace(part, id="", arguments=str(meaning(part.arguments)))
        if part in response.tool_calls
        else part
        for part in response.content
    ]
    return content, response.stop_reason, response.stop_sequence, response.extra


def said(response: Response) -> Said:
    """What an agent makes of it."""
    calls = [(call.name, str(meaning(call.arguments))) for call in response.tool_calls]
    return response.text.strip(), calls


def meaning(arguments: str) -> Any:
    """Arguments without their spaces; what a wire had to wrap is unwrapped."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return meaning(value["_raw"]) if isinstance(value, dict) and value.keys() == {"_raw"} else value
