"""Convert a recorded answer to the JSON value that a cassette's file contains, and back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, get_args

import msgspec

from ..._canonical.content import Blob, Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.response import Response, ResponsePart, StopReason, Usage
from ..._trace.increments import Increments
from ..._util.documents import Node, node_of
from ..play import Answer, Failure, FailureKind

_USAGE = Usage.__struct_fields__
_MEMBERS = (
    *("content", "stop_reason", "stop_sequence", "usage", "model", "extra", "dialect"),
    *("failure", "hung_up", "holds_calls", "seconds", "first", "parts", "characters", "waits"),
)
_PART_KINDS = ("text", "refusal", "reasoning", "call", "opaque")
_FAILURE = Failure.__struct_fields__


def answer_form(answer: Answer) -> dict[str, Json]:
    """Return `answer` as the JSON value that a cassette's file contains."""
    form: dict[str, Json] = {}
    if (response := answer.response) is not None:
        parts, usage = list(map(_part, response.content)), response.usage
        is_text = len(parts) == 1 and parts[0].keys() == {"text"}
        extras = [response.extra, usage and usage.extra]
        extras += [getattr(part, "extra", None) for part in response.content]
        form["content"] = parts[0]["text"] if is_text else parts
        more = {
            "stop_reason": response.stop_reason,
            "stop_sequence": response.stop_sequence,
            "usage": None if usage is None else msgspec.to_builtins(usage),
            "model": response.model,
            "extra": response.extra,
            "dialect": response.dialect if any(extras) else None,
        }
        form |= {name: value for name, value in more.items() if value}
    if (failure := answer.failure) is not None:
        members = {name: getattr(failure, name) for name in _FAILURE}
        with suppress(ValueError, RecursionError):
            # A body that is an object is kept as one, without its original white space.
            body = json.loads(failure.body, parse_constant=_no_constant)
            members["body"] = body if isinstance(body, dict) and body else failure.body
        form["failure"] = {name: value for name, value in members.items() if value not in (None, "")}
    if answer.hung_up:
        form["hung_up"] = True
    if not answer.holds_calls:
        form["holds_calls"] = False
    form["seconds"] = round(answer.duration, 3)
    if answer.first_event is not None:
        form["first"] = round(answer.first_event, 3)
    if (increments := answer.increments) is not None:
        if [part for part, _ in increments.runs] != [0]:
            form["parts"] = [number for run in increments.runs for number in run]
        form |= {"characters": list(increments.lengths), "waits": list(increments.waits)}
    return form


def _part(part: ResponsePart) -> dict[str, Json]:
    form: dict[str, Json]
    match part:
        case Text(text=text):
            form = {"text": text}
        case RefusalText(text=text):
            form = {"refusal": text}
        case Reasoning():
            form = {"reasoning": part.text}
            if part.blobs:
                form["blobs"] = [msgspec.to_builtins(blob) for blob in part.blobs]
        case ToolCall(kind="text"):
            form = {"call": part.name, "input": part.arguments}
        case ToolCall():  # the arguments are a value if their text can be restored from it, else a text
            form = {"call": part.name, "arguments": part.arguments}
            with suppress(ValueError, RecursionError):
                value = json.loads(part.arguments, parse_constant=_no_constant)
                for spaced in (True, False) if isinstance(value, dict | list) else ():
                    if _written(value, spaced=spaced) == part.arguments:
                        more = {"spaced": True} if spaced and value else {}
                        form = {"call": part.name, "arguments": value, **more}
        case Opaque():
            return {"opaque": part.raw, "dialect": part.dialect}
    return {**form, "extra": part.extra} if part.extra else form


def _no_constant(name: str) -> Json:
    raise ValueError(name)


def _written(value: Json, *, spaced: bool) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ") if spaced else (",", ":"))


def read_answer(node: Node) -> Answer:
    """Return the answer that `node`, a value in a cassette's file, describes.

    Raises:
        DialectError: `node` is not an answer; the text names the place in the file.
    """
    members = node.mapping(*_MEMBERS)
    if not members.keys() & {"content", "failure", "hung_up"}:
        raise node.error("an answer must have `content`, `failure` or `hung_up: true`")
    first, holds, usage = map(members.get, ("first", "holds_calls", "usage"))
    response: Response | None = None
    if "content" in members:
        content = members["content"].text_or_items()
        if usage is not None:
            usage.mapping(*_USAGE)
        stop: Any = _text(members, "stop_reason", *get_args(StopReason)) or None
        response = Response(
            (Text(content),) if isinstance(content, str) else tuple([_read_part(part) for part in content]),
            stop_reason=stop,
            stop_sequence=_text(members, "stop_sequence") or None,
            usage=usage and usage.converted(Usage),
            model=_text(members, "model"),
            extra=_extra(members),
            dialect=_text(members, "dialect"),
        )
    return Answer(
        response=response,
        failure=_read_failure(members["failure"]) if "failure" in members else None,
        hung_up="hung_up" in members and members["hung_up"].flag(),
        holds_calls=holds is None or holds.flag(),
        increments=_read_increments(members),
        first_event=first.seconds() if first is not None else None,
        duration=members["seconds"].seconds() if "seconds" in members else 0.0,
    )


def _read_part(node: Node) -> ResponsePart:
    members = node.mapping(*_PART_KINDS, "blobs", "arguments", "input", "spaced", "dialect", "extra")
    extra = _extra(members)
    match [name for name in _PART_KINDS if name in members]:
        case ["text" | "refusal" as kind]:
            text = node.mapping(kind, "extra")[kind].text()
            return Text(text, extra) if kind == "text" else RefusalText(text, extra)
        case ["reasoning"]:
            node.mapping("reasoning", "blobs", "extra")
            inner = members["blobs"].items() if "blobs" in members else []
            for blob in inner:
                blob.mapping("dialect", "kind", "data")
            read = [blob.converted(Blob) for blob in inner]
            return Reasoning(members["reasoning"].text(), tuple(read), extra)
        case ["call"]:
            node.mapping("call", "arguments", "input", "spaced", "extra")
            name, given = members["call"].text(), members.get("arguments") or node_of("{}")
            if "input" in members:
                return ToolCall(name, members["input"].text(), kind="text", extra=extra)
            is_spaced = "spaced" in members and members["spaced"].flag()
            text = given.value if isinstance(given.value, str) else _written(given.json, spaced=is_spaced)
            return ToolCall(name, text, extra=extra)
        case ["opaque"]:
            return Opaque(_text(node.mapping("opaque", "dialect"), "dialect"), members["opaque"].json)
    raise node.error(f"a part of an answer must be one of {', '.join(_PART_KINDS)}")


def _read_failure(node: Node) -> Failure:
    members = node.mapping(*_FAILURE)
    if "kind" in members:
        members["kind"].text(*get_args(FailureKind))
    if "status" in members and members["status"].count(400) > 599:
        raise members["status"].error(
            f"the status of a failure must be from 400 to 599, not {members['status'].value}"
        )
    if "retry_after" in members:
        members["retry_after"].seconds()
    form = node.json
    if not isinstance(form.get("body", ""), str):
        form["body"] = _written(form["body"], spaced=False)
    return node.converted(Failure, form)


def _read_increments(members: dict[str, Node]) -> Increments | None:
    if "characters" not in members:
        for name in ("parts", "waits"):
            if name in members:
                raise members[name].error(
                    "`parts` and `waits` need `characters`, a list with the length of each piece"
                )
        return None
    characters, waits = members["characters"], members.get("waits")
    lengths = [item.count() for item in characters.items()]
    pauses = [item.count() for item in waits.items()] if waits is not None else [0] * len(lengths)
    flat = [item.count() for item in members["parts"].items()] if "parts" in members else [0, len(lengths)]
    if len(pauses) != len(lengths) or len(flat) % 2 or sum(flat[1::2]) != len(lengths) or not lengths:
        raise characters.error("`parts`, `characters` and `waits` must hold the same number of pieces")
    return Increments(
        runs=tuple(zip(flat[::2], flat[1::2], strict=True)), lengths=tuple(lengths), waits=tuple(pauses)
    )


def _text(members: dict[str, Node], name: str, *words: str) -> str:
    return members[name].text(*words) if name in members else ""


def _extra(members: dict[str, Node]) -> dict[str, Json] | None:
    if "extra" not in members:
        return None
    members["extra"].mapping()
    found: dict[str, Json] = members["extra"].json
    return found
