"""Functions of the program that an agent can call as tools.

Rules:

1. The signature defines the schema: each parameter has a type that msgspec supports (`Annotated[int, msgspec.Meta(…)]`
   adds constraints). A parameter with a default is optional. If the signature defines no schema, `TypeError` is raised
   when the tool is created, not when it is called.
2. A parameter of type `Rollout` is not an argument of the agent: triocept passes the rollout of the call.
3. Arguments are decoded and checked strictly: a call with an unknown argument, or with "5" for an int, is refused.
4. An `async def` is awaited. A plain function is called in trio's own thread: it may use the program's objects
   without a lock, and must not block.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeAlias, final, get_type_hints

import msgspec
import trio

from .._canonical.content import Json
from .._canonical.given import read_back
from .._canonical.request import Tool
from .._util.checks import check_number, check_str, described
from ..errors import Refusal

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Pattern of the tool names that every dialect allows (the rule of OpenAI and Anthropic)."""


class Given:
    """Base class of parameter types whose values triocept passes, such as `Rollout`. The agent passes no value."""


@final
class HostTool(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the program that the agent can call as a tool. `HostTool.of` creates instances."""

    tool: Tool
    """Name, description and JSON Schema, from which a dialect renders the tool."""
    timeout: float | None = None
    """Maximum seconds of a call.

    When exceeded: the call is cancelled, and the agent gets an error. None means no limit.
    """
    function: Callable[..., Any]
    _arguments: type[msgspec.Struct]
    _rollout_parameter: str | None = None

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
    ) -> Self:
        """Return a tool that calls `function`.

        Args:
            function: a typed function or bound method, `async` or not.
            name: letters, digits, `_` and `-`, at most 64. None means the function's own name.
            description: the description of the tool. None means the function's docstring.
            timeout: maximum seconds of a call. None means no limit: a call runs until it returns, its caller
                disconnects or the rollout ends.

        Raises:
            TypeError: triocept cannot derive a JSON Schema from the function's signature. The error's text gives the
                reason.
            ValueError: a dialect does not allow the name, or `timeout` is less than 0 or infinite.
        """
        if not callable(function):
            raise TypeError(f"a tool must be a function, not {described(function)}")
        if description is not None:
            check_str("description", description)
        if timeout is not None:
            check_number("timeout", timeout, hint="pass None to wait without a limit")
        name = name or str(getattr(function, "__name__", ""))
        if not NAME.fullmatch(name):
            text = f"a tool's name must be 1 to 64 letters, digits, _ and -, not {name!r}: pass a valid name as name="
            raise ValueError(text)
        types = _parameter_types(function, name)
        given = (p for p, kind in types.items() if isinstance(kind, type) and issubclass(kind, Given))
        own = next(given, None)
        types.pop(own or "", None)
        parameters = inspect.signature(function).parameters
        defaults = {name: parameters[name].default for name in types}
        # Leave a missing argument unset: the function has a default for it.
        fields: list[Any] = [
            (p, kind)
            if defaults[p] is inspect.Parameter.empty
            else (p, kind | msgspec.UnsetType, msgspec.UNSET)
            for p, kind in types.items()
        ]
        arguments = msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)
        tool = Tool(
            name=name,
            description=description or inspect.getdoc(function),
            parameters=_schema_of(arguments, defaults, name),
        )
        return cls(
            tool=tool, timeout=timeout, function=function, _arguments=arguments, _rollout_parameter=own
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # The class of its arguments is generated, and cannot be pickled by name: the tool is created again.
        tool = self.tool
        made = partial(HostTool.of, name=tool.name, description=tool.description, timeout=self.timeout)
        return made, (self.function,)

    def bind(self, arguments: Json) -> dict[str, Any]:
        """Return the arguments of a call by parameter name, converted to the parameters' types.

        Raises:
            Refusal: with 400, because the arguments do not fit the schema. The error's text names the invalid part.
        """
        try:
            found = msgspec.convert({} if arguments is None else arguments, self._arguments, str_keys=True)
        except msgspec.ValidationError as exc:
            text = f"the arguments do not match the parameters of the tool {self.tool.name}: {exc}"
            raise Refusal(400, text, should_retry=False) from exc
        values = ((name, getattr(found, name)) for name in self._arguments.__struct_fields__)
        return {name: value for name, value in values if value is not msgspec.UNSET}

    async def call(self, bound: Mapping[str, Any], rollout: object) -> Json:
        """Call the function with the arguments in `bound`, and return its result as decoded JSON.

        Raises:
            Refusal: with 504 if the function took longer than `timeout`, with 500 if its result is not JSON.
            BaseException: the function's own exception.
        """
        given = {**bound, self._rollout_parameter: rollout} if self._rollout_parameter else dict(bound)
        with trio.move_on_after(self.timeout if self.timeout is not None else float("inf")) as scope:
            result = self.function(**given)
            if inspect.isawaitable(result):
                result = await result
            return json_of(result, f"the result of the tool {self.tool.name}")
        assert scope.cancelled_caught
        text = f"the tool {self.tool.name} took longer than its timeout of {self.timeout:g} s"
        raise Refusal(504, text, should_retry=False)


ToolLike: TypeAlias = HostTool | Callable[..., Any]
"""A tool: a typed function, or a result of `HostTool.of`."""


def json_of(value: Any, what: str) -> Json:
    """Return `value`, encoded as JSON and decoded again.

    The value may be of any type that msgspec can encode: Structs, dataclasses, dates, …

    Raises:
        Refusal: with 500, because the value cannot be written as JSON.
    """
    try:
        return read_back(msgspec.to_builtins(value, str_keys=True))
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        raise Refusal(500, f"{what} is not JSON: {exc}", should_retry=False) from exc


def _parameter_types(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Return the type of each parameter of `function`, in the order of the signature."""
    try:
        plain = function if inspect.isroutine(function) else type(function).__call__
        hints = get_type_hints(plain, include_extras=True)
    except NameError as exc:
        text = f"tool {name!r}: a type in its signature cannot be found in the module of the function: {exc}"
        raise TypeError(text) from exc
    types: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            text = f"tool {name!r}: {parameter} cannot be passed by name, but an agent passes every argument by name"
            raise TypeError(text)
        if parameter.name not in hints:
            raise TypeError(f"tool {name!r}: the parameter {parameter.name!r} has no type annotation")
        types[parameter.name] = hints[parameter.name]
    return types


def _schema_of(arguments: type[msgspec.Struct], defaults: Mapping[str, Any], name: str) -> dict[str, Json]:
    """Return the JSON Schema of a tool's arguments.

    The schema's top level is an object, because every dialect requires this. Other types are in `$defs`.
    """
    try:
        (reference,), components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    except TypeError as exc:
        raise TypeError(f"tool {name!r}: {_without_schema(arguments) or exc}") from None
    schema = components.pop(reference["$ref"].rpartition("/")[2])
    del schema["title"]
    for parameter, default in defaults.items():
        if default is not inspect.Parameter.empty:
            with suppress(TypeError, ValueError, RecursionError):  # a type that no agent can send
                schema["properties"][parameter]["default"] = msgspec.to_builtins(default, str_keys=True)
    return {**schema, "$defs": components} if components else schema


def _without_schema(arguments: type[msgspec.Struct]) -> str | None:
    """Return a text about the first parameter whose type has no JSON Schema. Return None if every type has one."""
    for field in msgspec.structs.fields(arguments):
        try:
            msgspec.json.schema_components([field.type])
        except TypeError:
            kind = getattr(field.type, "__qualname__", str(field.type))
            return (
                f"the parameter {field.name!r} is of type {kind}, which has no JSON Schema: use a type that has one, "
                "such as str, int, list[str], a dataclass or a msgspec.Struct"
            )
    return None
