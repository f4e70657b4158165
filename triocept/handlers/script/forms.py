"""Types of the mappings in a script file.

The reader uses these types, and the published JSON Schema is generated from them.

Each type is called a form. The first field of a form is required, and a mapping with this key is read as this form. A
key that is not a field of the form is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..._canonical.response import StopReason
from .conditions import OutputKind

Reply: TypeAlias = Annotated[Any, Meta(extra_json_schema={"$ref": "#/$defs/Reply"})]
Step: TypeAlias = Annotated[Any, Meta(extra_json_schema={"$ref": "#/$defs/Step"})]
Part: TypeAlias = Annotated[Any, Meta(extra_json_schema={"$ref": "#/$defs/Part"})]
"""Type of a reply, or of a part of a reply: a text, a list, or one of several mappings. msgspec cannot decode such a
union, so the module `reading` converts the value.
"""

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of the types of mappings in a script file."""


class ToolForm(Form, frozen=True):
    """Mapping that describes a reply, or a part of a reply: a call of one of the agent's tools."""

    tool: str
    """Name of the tool."""
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)
    """Arguments by name. A text is sent unchanged, even if it is not JSON."""
    id: str = ""
    """Id of the call. If empty, an id is generated."""


class ReasoningForm(Form, frozen=True):
    """Mapping that describes a part of a reply: reasoning of the model."""

    reasoning: str


class RefusalForm(Form, frozen=True):
    """Mapping that describes a part of a reply: a text with which the model itself refuses."""

    refusal: str


class UsageForm(Form, frozen=True):
    """Token counts that the agent gets with the answer."""

    input_tokens: Annotated[int, Meta(ge=0)]
    output_tokens: Annotated[int, Meta(ge=0)]
    cached_tokens: Annotated[int, Meta(ge=0)] | None = None
    cache_write_tokens: Annotated[int, Meta(ge=0)] | None = None
    reasoning_tokens: Annotated[int, Meta(ge=0)] | None = None


class WholeForm(Form, frozen=True):
    """Mapping that describes a reply: a whole response, with its content and its other fields."""

    parts: list[Part]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: UsageForm | None = None
    model: str = ""
    id: str = ""


class RefuseForm(Form, frozen=True):
    """Mapping that describes a reply: an HTTP error, in the agent's own dialect."""

    refuse: Annotated[int, Meta(extra_json_schema={"minimum": 400, "maximum": 599})]
    """HTTP status of the refusal."""
    message: str = "refused"
    retry_after: Seconds | None = None
    should_retry: bool | None = None
    code: str | None = None
    headers: dict[str, str] | None = None


class TemplateForm(Form, frozen=True):
    """Mapping that describes a reply: a text with placeholders in braces for words of the request."""

    template: str


class AskedForm(Form, frozen=True):
    """Mapping that describes a reply: JSON that fits the schema in the request."""

    asked_json: dict[str, Any]
    """Values of some fields of the JSON."""


class StreamForm(Form, frozen=True):
    """Mapping that describes a reply: an answer that is streamed in the listed pieces."""

    stream: Annotated[list[Part], Meta(min_length=1)]
    delay: Seconds = 0.0
    first_after: Seconds = 0.0
    stop_reason: StopReason | None = None
    usage: UsageForm | None = None


class PacedForm(Form, frozen=True):
    """Mapping that describes a reply: an answer that is streamed in pieces of equal size."""

    paced: Reply
    """A text, a tool call, a list of these, or a whole response."""
    characters: Annotated[int, Meta(ge=1)] = 4
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None
    first_after: Seconds = 0.0


class FaultForm(Form, frozen=True):
    """Mapping that describes a reply: a fault, given by its name, or by a mapping from its name to its arguments."""

    fault: str | Annotated[dict[str, Any], Meta(min_length=1, max_length=1)]


class PatternForm(Form, frozen=True):
    """A regular expression, in Python's syntax, in place of a text."""

    regex: str
    ignore_case: bool = False


class WhenForm(Form, frozen=True):
    """Conditions on a request, all of which must be met."""

    text: str | PatternForm | UnsetType = UNSET
    system: str | PatternForm | UnsetType = UNSET
    model: str | PatternForm | UnsetType = UNSET
    tool_result: str | bool | PatternForm | UnsetType = UNSET
    result_of: str | UnsetType = UNSET
    offered_tool: str | UnsetType = UNSET
    output: OutputKind | UnsetType = UNSET


class RuleForm(Form, frozen=True):
    """Mapping that describes a rule: conditions and replies.

    The replies in `reply` and `replies` are given once. The replies in `repeat` and `cycle` are given again and again.
    """

    when: WhenForm
    reply: Reply = UNSET
    replies: Annotated[list[Step], Meta(min_length=1)] | UnsetType = UNSET
    repeat: Reply = UNSET
    cycle: Annotated[list[Step], Meta(min_length=1)] | UnsetType = UNSET


class CycleForm(Form, frozen=True):
    """Mapping that lists several replies, which are given in order.

    After the last reply, the first reply follows again.
    """

    cycle: Annotated[list[Step], Meta(min_length=1)]


class OtherwiseForm(Form, frozen=True):
    """Mapping that describes a rule for each request which no earlier item answers.

    The rule gives its replies in order, and then begins again with the first reply.
    """

    otherwise: Annotated[
        Any,
        Meta(extra_json_schema={"anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Reply", "CycleForm")]}),
    ]
    """A reply, or a cycle of replies."""


class FileForm(Form, frozen=True):
    """Top-level mapping of a script file that contains the URL of the JSON Schema beside the script."""

    script: list[Any]
    schema: str = msgspec.field(name="$schema", default="")


PARTS: tuple[type[Form], ...] = (ToolForm, ReasoningForm, RefusalForm)
REPLIES: tuple[type[Form], ...] = (
    *PARTS,
    WholeForm,
    RefuseForm,
    TemplateForm,
    AskedForm,
    StreamForm,
    PacedForm,
    FaultForm,
)
ITEMS: tuple[type[Form], ...] = (RuleForm, OtherwiseForm, *REPLIES)
SAYS = ("reply", "replies", "repeat", "cycle")
"""Keys for the replies of a rule; each rule has exactly one of these keys."""
