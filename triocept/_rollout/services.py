"""The services of a rollout besides the model: tools, simulated user, stop condition, state, embeddings, moderations.

The module `service_calls` runs the calls to the services, and ends them with the rollout.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .._canonical.content import Json, Message, Text
from .._canonical.given_request import given_messages
from .._canonical.vectors import Embedded, Vector, token_count
from .._canonical.verdict import Verdict
from .._util.checks import check_callable, described, is_not_async, named, takes
from ..errors import Refusal
from .embedding import Embed, check_embed, embed
from .moderation import Moderate, check_moderate, moderate
from .service_calls import ServiceCalls
from .tools import HostTool, ToolLike, json_of

if TYPE_CHECKING:
    from .rollout_state import RolloutState

Said: TypeAlias = str | Message | Sequence[str | Message] | None
"""The answer of a simulated user: a text, a message, a list of texts and messages, or None."""

MessagesFunction: TypeAlias = Callable[[Sequence[Message], Any], Awaitable[Any]]
"""A `UserSimulator` or a `StopCondition`; both take the rollout as second argument."""


class Services:
    """The services that one rollout offers its agent besides the model.

    Args:
        tools: functions, or `HostTool`s.
        user: the simulated user. None means that the rollout has no simulated user.
        stop: the program's stop condition, in addition to `rollout.stop`. None means no condition.
        state: the initial value. If None, the rollout has no state, unless `state_type` is given.
        state_type: the type of all values of the state. None means the type of the initial value.
        embed: returns vectors for texts. If None, vectors are computed from the words.
        moderate: returns moderation results for texts. None means that no text is flagged.

    Raises:
        TypeError: a tool has no JSON Schema, two tools have the same name, or the initial state is not of type
            `state_type`.
        ValueError: a tool's name is invalid.
    """

    def __init__(
        self,
        tools: Iterable[ToolLike] = (),
        *,
        user: MessagesFunction | None = None,
        stop: MessagesFunction | None = None,
        state: Any = None,
        state_type: Any = None,
        embed: Embed | None = None,
        moderate: Moderate | None = None,
    ) -> None:
        given_tools: object = tools
        if not isinstance(given_tools, Iterable) or isinstance(given_tools, (str, Mapping)):
            hint = f"; write tools=[{getattr(tools, '__name__', 'f')}]" if callable(tools) else ""
            raise TypeError(f"tools must be a list of functions, not {described(tools)}{hint}")
        for name, given in (("user", user), ("stop", stop)):
            if given is not None:
                _check_async(name, given)
        if embed is not None:
            check_embed(embed)
        if moderate is not None:
            check_moderate(moderate)
        self.embedder = embed
        self.moderator = moderate
        self.tools: dict[str, HostTool] = {}
        for function in tools:
            made = function if isinstance(function, HostTool) else HostTool.of(function)
            if self.tools.setdefault(made.tool.name, made) is not made:
                raise TypeError(f"two tools have the name {made.tool.name!r}: give each tool its own name")
        self.user = user
        self.stop = stop
        self.state_type: Any = state_type if state_type is not None else type(state)
        self.has_state: bool = state is not None or state_type is not None
        self.state_key: str | None = f"sk-triocept-state-{token_urlsafe(32)}" if self.has_state else None
        self.state: Any = self._checked(state) if self.has_state else None
        self.calls: ServiceCalls = ServiceCalls()

    # Called by the server

    async def call_tool(self, rollout: RolloutState, name: str, arguments: Json) -> Json:
        """Call the tool `name`, and return its result as decoded JSON.

        Raises:
            Refusal: with 404 if there is no such tool, 400 if the arguments do not fit its schema, 504 if the tool took
                too long. The status is 500 if the tool raised an exception, or if its result is not JSON. If the tool
                raises a `Refusal`, this refusal is raised unchanged. If the rollout has ended, the refusal that ended
                it is raised.

        Cancellation: cancels the tool, and waits until the tool has ended.
        """
        tool = self.tools.get(name)
        if tool is None:
            known = ", ".join(self.tools) or "none"
            raise Refusal(
                404, f"this rollout has no tool {name!r}; tools of the rollout: {known}", should_retry=False
            )

        async def run() -> Json:
            return await tool.call(tool.bind(arguments), rollout.public)

        return await self.calls.run(rollout, "tool", name, arguments, run)

    async def ask_user(self, rollout: RolloutState, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Call the simulated user, and return its next messages.

        Raise a `Refusal` with 404 if the rollout has no simulated user. All other errors are those of `call_tool`, and
        so is the effect of a cancellation.
        """
        user = self.user
        if user is None:
            text = f"rollout {rollout.id} has no simulated user: pass user= to open_rollout"
            raise Refusal(404, text, should_retry=False)

        async def run() -> tuple[Message, ...]:
            return _messages_of(await _awaited("user", user, user(messages, rollout.public)))

        found = await self.calls.run(rollout, "user", "user", messages, run)
        return msgspec.convert(found, tuple[Message, ...])

    async def ask_stop(self, rollout: RolloutState, messages: tuple[Message, ...]) -> str | None:
        """Call the stop condition, and return the reason why the run is done. Return None if the run is not done."""
        if rollout.ending is not None:
            return rollout.ending.message
        stop = self.stop
        if stop is None:
            return None

        async def run() -> str | None:
            given: object = await _awaited("stop", stop, stop(messages, rollout.public))
            if given is not None and not isinstance(given, str):
                text = f"stop must return a reason (a str) or None, not {described(given)}"
                raise TypeError(text)
            return given

        reason: str | None = await self.calls.run(rollout, "stop", "stop", messages, run)
        return reason

    async def get_state(self, rollout: RolloutState) -> Json:
        async def run() -> Json:
            return json_of(self.state, "the state")

        return await self.calls.run(rollout, "state", "get", None, run)

    async def put_state(self, rollout: RolloutState, document: Json) -> Json:
        """Replace the whole state with the value in `document`.

        Raise a `Refusal` with 400 if the value does not fit the state's type. The state is then unchanged.
        """

        async def run() -> Json:
            try:
                self.state = msgspec.convert(document, self.state_type, str_keys=True)
            except msgspec.ValidationError as exc:
                text = f"the new state does not have the type of this rollout's state: {exc}"
                raise Refusal(400, text, should_retry=False) from exc
            return json_of(self.state, "the state")

        return await self.calls.run(rollout, "state", "put", document, run)

    async def embed(
        self,
        rollout: RolloutState,
        model: str,
        document: Json,
        inputs: tuple[Embedded, ...],
        dimensions: int | None,
    ) -> tuple[Sequence[Vector], int]:
        """Return one vector for each input, and the total number of tokens of all inputs.

        If the program's function `embed` raises an exception, the code that opened the rollout gets this exception,
        like an exception of a handler. All other errors are those of `call_tool`, and so is the effect of a
        cancellation.
        """
        vectors: Sequence[Vector] = ()
        tokens = sum(map(token_count, inputs))

        async def run() -> Json:
            nonlocal vectors
            vectors = await embed(self.embedder, inputs, dimensions) if inputs else ()
            size = len(vectors[0]) if vectors else 0
            return {"vectors": len(vectors), "dimensions": size, "prompt_tokens": tokens}

        await self.calls.run(rollout, "embeddings", model, document, run, owned=True)
        return vectors, tokens

    async def moderate(
        self, rollout: RolloutState, model: str, document: Json, texts: tuple[str, ...]
    ) -> Sequence[Verdict]:
        """Return the moderation result of each text.

        Raise the same errors as `embed`. A cancellation has the same effect as for `embed`.
        """
        verdicts: Sequence[Verdict] = ()

        async def run() -> Json:
            nonlocal verdicts
            verdicts = await moderate(self.moderator, texts)
            found: Json = msgspec.to_builtins(verdicts)
            return found

        await self.calls.run(rollout, "moderations", model, document, run, owned=True)
        return verdicts

    def set_state(self, value: Any) -> None:
        if not self.has_state:
            raise TypeError("this rollout has no state: pass the initial state to open_rollout as state=…")
        self.state = self._checked(value)

    def _checked(self, value: Any) -> Any:
        try:
            msgspec.convert(msgspec.to_builtins(value, str_keys=True), self.state_type, str_keys=True)
        except (TypeError, ValueError) as exc:
            raise TypeError(f"the state must be of type {self.state_type!r}: {exc}") from exc
        return value


def _check_async(name: str, given: object) -> None:
    """Raise TypeError if `given` cannot be called with messages and a rollout, or is not async."""
    form = f"`async def {name}(messages, rollout)`"
    check_callable(name, given, form)
    if isinstance(given, type):
        raise TypeError(f"{name} must be {form}; {given.__qualname__} is a class: pass an instance of it")
    if is_not_async(given):
        raise TypeError(f"{name} must be {form}; {named(given)} is not async")
    if not takes(given, 2):
        raise TypeError(f"{name} must be {form}; {named(given)} does not take two arguments")


async def _awaited(name: str, function: object, returned: object) -> Any:
    if not inspect.isawaitable(returned):
        form = f"`async def {name}(messages, rollout)`"
        text = f"{name} must be {form}; {named(function)} is not async: it returned {described(returned)}"
        raise TypeError(text)
    return await returned


def _messages_of(said: Said) -> tuple[Message, ...]:
    """Convert `said`, the value that a simulated user has returned, to messages.

    Raises:
        TypeError: `said` is not a value that a simulated user may return.
    """
    if said is None:
        return ()
    pieces = (said,) if isinstance(said, (str, Message)) or not isinstance(said, Iterable) else tuple(said)
    for piece in pieces:
        if not isinstance(piece, (str, Message)):
            raise TypeError(
                f"the function user= must return a str, a Message, a list of these, or None, not {described(piece)}"
            )
    messages = tuple(Message("user", (Text(p),)) if isinstance(p, str) else p for p in pieces)
    return given_messages("the messages of a user", messages)
