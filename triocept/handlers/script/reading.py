"""Convert a parsed script file to replies and rules.

The errors name the file and the line, and describe the mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, cast

import msgspec

from ..._canonical.content import Reasoning, RefusalText, ToolCall
from ..._canonical.response import Response, ResponsePart, Usage
from ..._util.checks import described, meant
from ..._util.documents import Node
from ...errors import DialectError, Refusal
from ..faults import MAKERS, Fault
from . import forms
from .asked_json import AskedJSON
from .conditions import Conditions
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
"""Types of the mappings inside other mappings, by the key whose value they are."""


def read_items(document: Node) -> list[Reply | Rule]:
    """Return the replies and rules in a script's document.

    Raises:
        DialectError: an item is neither a reply nor a rule. The error's text names the file, the line and the invalid
            part.
    """
    if isinstance(document.value, dict) and "script" in document.value:
        read_form(document, forms.FileForm)
        document = document.value["script"]
    if document.value is None:
        raise document.error('the file contains no reply: write a list of replies, such as ["hello"]')
    if not isinstance(document.value, list):
        text = "a script must be a list of replies, or a mapping with the list under 'script'"
        raise document.error(f"{text}, not {described(document.json)}")
    return [_read_rule(node) or _read_reply(node, pauses=True) for node in document.value]


# Rules


def _read_rule(node: Node) -> Rule | None:
    """Return the rule in `node`. Return None if `node` contains no rule."""
    match form_of(node, forms.ITEMS):
        case forms.RuleForm:
            form, value = read_form(node, forms.RuleForm, _NESTED), node.value
            names = [name for name in forms.SAYS if name in value]
            if len(names) != 1:
                has = " and ".join(names) or "none of them"
                raise node.error(
                    f"a rule must have one of the keys {', '.join(forms.SAYS)}, but this rule has {has}"
                )
            return _rule(node, _conditions(value["when"], form.when), value[names[0]], names[0])
        case forms.OtherwiseForm:
            read_form(node, forms.OtherwiseForm)
            inner = node.value["otherwise"]
            if isinstance(inner.value, dict) and "cycle" in inner.value:
                read_form(inner, forms.CycleForm)
                return _rule(node, Conditions(), inner.value["cycle"], "cycle")
            return _rule(node, Conditions(), inner, "repeat")
    return None


def _rule(node: Node, conditions: Conditions, said: Node, name: str) -> Rule:
    several = name in ("replies", "cycle")
    nodes = said.value if several and isinstance(said.value, list) else [said]
    replies = tuple([_read_reply(each, pauses=several) for each in nodes])
    made(said, lambda: check_replies(replies, name))
    return Rule(conditions=conditions, replies=replies, endless=name in ("repeat", "cycle"), place=node.place)


def _conditions(node: Node, form: forms.WhenForm) -> Conditions:
    said = {name: value for name, value in _beside(form).items() if value is not msgspec.UNSET}
    if not said:
        raise node.error("this condition matches every request: write 'otherwise'")
    for name, value in said.items():
        if isinstance(value, forms.PatternForm):
            try:
                said[name] = re.compile(value.regex, re.IGNORECASE if value.ignore_case else 0)
            except re.error as exc:
                inner = node.value[name].value["regex"]
                raise inner.error(f"this is not a regular expression: {exc}") from None
    return made(node, lambda: Conditions(**said))


# Replies


def _read_reply(node: Node, *, pauses: bool) -> Reply:
    match node.value:
        case str():
            return node.value
        case bool() | None:
            pass
        case int() | float() if pauses:
            number = node.value
            made(node, lambda: check_reply(number, "this item"))
            return number
        case list() as items if items:
            return cast(Reply, [_read_part(item) for item in items])
        case dict():
            form = form_of(node, forms.REPLIES)
            if form is not None:
                return made(node, lambda: cast(Reply, _from_form(node, read_form(node, form, _NESTED))))
    raise _no_reply(node, "reply", forms.REPLIES)


def _read_part(node: Node) -> str | ResponsePart:
    if isinstance(node.value, str):
        return node.value
    form = form_of(node, forms.PARTS)
    if form is None:
        raise _no_reply(node, "part of an answer", forms.PARTS)
    return made(node, lambda: cast(ResponsePart, _from_form(node, read_form(node, form, _NESTED))))


def _no_reply(node: Node, what: str, among: tuple[type[forms.Form], ...]) -> DialectError:
    heads = [head_of(form) for form in among]
    if isinstance(node.value, dict) and node.value:
        name, inner = next(iter(node.mapping().items()))
        if name in ("text", "reply"):
            hint = f"; write the value of {name!r} alone, as the item"
        else:
            hint = meant(name, heads, "it must have one of")
        return inner.error(f"a {what} cannot have the key {name!r}{hint}")
    return node.error(
        f"this is not a {what}: {short(node.json)}; a {what} is a text, or a mapping with one of the keys "
        f"{', '.join(heads)}"
    )


def _from_form(node: Node, form: forms.Form) -> object:
    """Return the reply, or the part of a reply, that `form` describes.

    `form` is the mapping in `node`, already converted.
    """
    match form:
        case forms.ToolForm(arguments=arguments):
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            return ToolCall(form.tool, text, form.id)
        case forms.ReasoningForm():
            return Reasoning(form.reasoning)
        case forms.RefusalForm():
            return RefusalText(form.refusal)
        case forms.WholeForm():
            content = Response.of(*_parts(node, "parts")).content
            return Response(content, usage=_usage(form.usage), **_beside(form, "parts", "usage"))
        case forms.RefuseForm():
            return Refusal(form.refuse, **_beside(form, "refuse"))
        case forms.TemplateForm():
            return Template(form.template)
        case forms.AskedForm():
            return AskedJSON(**form.asked_json)
        case forms.StreamForm():
            more = _beside(form, "stream", "usage")
            return Stream(*_parts(node, "stream"), **more, usage=_usage(form.usage))
        case forms.PacedForm():
            answer: Any = _read_reply(node.value["paced"], pauses=False)
            if not isinstance(answer, str | list | ToolCall | Reasoning | RefusalText | Response):
                raise node.value["paced"].error(
                    "only an answer of the model can be paced: a text, a tool call, …"
                )
            return paced(answer, **_beside(form, "paced"))
        case forms.FaultForm():
            return _read_fault(node, form)
    raise AssertionError(form)


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
    """Return an argument for a fault: the answer that `node` describes.

    If `node` describes no answer, return its value.
    """
    return node.json if form_of(node, forms.REPLIES) is None else _read_reply(node, pauses=False)


def _parts(node: Node, name: str) -> list[str | ResponsePart]:
    return [_read_part(item) for item in node.value[name].items()]


def _beside(form: forms.Form, *names: str) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(form).items() if name not in names}


def _usage(form: forms.UsageForm | None) -> Usage | None:
    return None if form is None else Usage(**msgspec.structs.asdict(form))
