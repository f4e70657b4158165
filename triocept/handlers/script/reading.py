"""Reader of a script's document by its forms: returns replies and rules, or raises with the place of the error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any, cast

import msgspec

from ..._canonical.content import Reasoning, RefusalText, ToolCall
from ..._canonical.response import Response, ResponsePart, Usage
from ..._util.checks import meant
from ..._util.documents import Node
from ...errors import DialectError, Refusal
from ..faults import MAKERS, Fault
from . import forms
from .asked_json import AskedJSON
from .conditions import Conditions, Wording
from .form_reading import form_of, head_of, made, read_form
from .replies import Reply, check_replies, check_reply
from .rules import Rule
from .stream import Stream, paced
from .template import Template

_NESTED: Mapping[str, type[forms.Form]] = {
    "when": forms.WhenForm,
    "usage": forms.UsageForm,
    **dict.fromkeys(("text", "system", "model", "tool_result"), forms.PatternForm),
}
"""Forms of nested mappings, by their keys."""


def read_items(document: Node) -> list[Reply | Rule]:
    """Return the replies and rules of a document.

    Raises:
        DialectError: an item is neither; the text names file, line and place.
    """
    if isinstance(document.value, dict) and "script" in document.value:
        read_form(document, forms.FileForm)
        document = document.value["script"]
    if not isinstance(document.value, list):
        raise document.error("a script is a list of replies, or a mapping with one as its 'script'")
    return [_read_item(node) for node in document.value]


def _read_item(node: Node) -> Reply | Rule:
    match form_of(node, forms.ITEMS):
        case forms.RuleForm:
            return _read_rule(node)
        case forms.OtherwiseForm:
            return _read_otherwise(node)
        case _:
            return _read_reply(node, pauses=True)


# Rules


def _read_rule(node: Node) -> Rule:
    form, value = read_form(node, forms.RuleForm, _NESTED), node.value
    said = [name for name in forms.SAYS if name in value]
    if len(said) != 1:
        raise node.error(f"a rule has one of {', '.join(forms.SAYS)}, not {' and '.join(said) or 'none'}")
    (name,) = said
    return _rule(node, _conditions(value["when"], form.when), value[name], name)


def _read_otherwise(node: Node) -> Rule:
    read_form(node, forms.OtherwiseForm)
    said = node.value["otherwise"]
    if isinstance(said.value, dict) and "cycle" in said.value:
        read_form(said, forms.CycleForm)
        return _rule(node, Conditions(), said.value["cycle"], "cycle")
    return _rule(node, Conditions(), said, "repeat")


def _rule(node: Node, conditions: Conditions, said: Node, name: str) -> Rule:
    several = name in ("replies", "cycle")
    nodes = said.value if several and isinstance(said.value, list) else [said]
    replies = tuple([_read_reply(each, pauses=several) for each in nodes])
    made(said, lambda: check_replies(replies, name))
    return Rule(conditions=conditions, replies=replies, endless=name in ("repeat", "cycle"), place=node.place)


def _conditions(node: Node, form: forms.WhenForm) -> Conditions:
    said = {name: value for name, value in _beside(form).items() if value is not msgspec.UNSET}
    if not said:
        raise node.error("this holds of every request: 'otherwise' says so")
    wordings = {
        name: _pattern(node.value[name], value) if isinstance(value, forms.PatternForm) else value
        for name, value in said.items()
    }
    return made(node, lambda: Conditions(**cast(Any, wordings)))


def _pattern(node: Node, form: forms.PatternForm) -> Wording:
    try:
        return re.compile(form.regex, re.IGNORECASE if form.ignore_case else 0)
    except re.error as exc:
        raise node.value["regex"].error(f"not a regular expression: {exc}") from None


# Replies


def _read_reply(node: Node, *, pauses: bool) -> Reply:
    match node.value:
        case str():
            return node.value
        case bool() | None:
            pass
        case int() | float() if pauses:
            number = node.value
            made(node, lambda: check_reply(number, "a pause"))
            return number
        case list() as items if items:
            return cast(Reply, [_read_part(item) for item in items])
        case dict():
            form = form_of(node, forms.REPLIES)
            if form is not None:
                return made(node, lambda: cast(Reply, _READERS[form](node, read_form(node, form, _NESTED))))
    raise _no_reply(node, "reply", forms.REPLIES)


def _read_part(node: Node) -> str | ResponsePart:
    if isinstance(node.value, str):
        return node.value
    form = form_of(node, forms.PARTS)
    if form is None:
        raise _no_reply(node, "part of an answer", forms.PARTS)
    return made(node, lambda: cast(ResponsePart, _READERS[form](node, read_form(node, form, _NESTED))))


def _no_reply(node: Node, what: str, among: tuple[type[forms.Form], ...]) -> DialectError:
    heads = [head_of(form) for form in among]
    if isinstance(node.value, dict) and node.value:
        name, inner = next(iter(node.mapping().items()))
        hint = meant(name, heads, f"a {what} has one of")
        return inner.error(f"not a {what}: there is no {name!r}{hint}")
    return node.error(
        f"not a {what}: {short(node.json)}; it is a text, or a mapping with one of {', '.join(heads)}"
    )


def _read_tool(node: Node, form: forms.ToolForm) -> ToolCall:
    arguments = form.arguments
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return ToolCall(form.tool, text, form.id)


def _read_whole(node: Node, form: forms.WholeForm) -> Response:
    content = Response.of(*_parts(node, "parts")).content
    return Response(content, usage=_usage(form.usage), **_beside(form, "parts", "usage"))


def _read_stream(node: Node, form: forms.StreamForm) -> Stream:
    return Stream(*_parts(node, "stream"), **_beside(form, "stream", "usage"), usage=_usage(form.usage))


def _read_paced(node: Node, form: forms.PacedForm) -> Stream:
    answer: Any = _read_reply(node.value["paced"], pauses=False)
    if not isinstance(answer, str | list | ToolCall | Reasoning | RefusalText | Response):
        raise node.value["paced"].error("only what a model says can be paced")
    return paced(answer, **_beside(form, "paced"))


def _read_fault(node: Node, form: forms.FaultForm) -> Fault:
    inner = node.value["fault"]
    name, takes = (form.fault, None) if isinstance(form.fault, str) else next(iter(inner.value.items()))
    if name not in MAKERS:
        raise inner.error(f"there is no fault {name!r}{meant(name, MAKERS)}")
    if takes is None:
        return made(inner, MAKERS[name])
    if isinstance(takes.value, dict) and form_of(takes, forms.REPLIES) is None:
        given = {key: _argument(inner) for key, inner in takes.value.items()}
        return made(takes, lambda: MAKERS[name](**given))
    return made(takes, lambda: MAKERS[name](_argument(takes)))


def _argument(node: Node) -> object:
    """Return a plain value, or the answer that the node describes."""
    return node.json if form_of(node, forms.REPLIES) is None else _read_reply(node, pauses=False)


_READERS: Mapping[type[forms.Form], Callable[[Node, Any], object]] = {
    forms.ToolForm: _read_tool,
    forms.ReasoningForm: lambda node, form: Reasoning(form.reasoning),
    forms.RefusalForm: lambda node, form: RefusalText(form.refusal),
    forms.WholeForm: _read_whole,
    forms.RefuseForm: lambda node, form: Refusal(form.refuse, **_beside(form, "refuse")),
    forms.TemplateForm: lambda node, form: Template(form.template),
    forms.AskedForm: lambda node, form: AskedJSON(**form.asked_json),
    forms.StreamForm: _read_stream,
    forms.PacedForm: _read_paced,
    forms.FaultForm: _read_fault,
}


def _parts(node: Node, name: str) -> list[str | ResponsePart]:
    return [_read_part(item) for item in node.value[name].items()]


def _beside(form: forms.Form, *names: str) -> dict[str, Any]:
    """Return the form's fields except these, as keywords for the object that is made from it."""
    return {name: value for name, value in msgspec.structs.asdict(form).items() if name not in names}


def _usage(form: forms.UsageForm | None) -> Usage | None:
    return None if form is None else Usage(**msgspec.structs.asdict(form))
