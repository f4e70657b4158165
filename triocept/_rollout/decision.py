"""Decisions about tool calls, and the policies that make these decisions.

Rules:

1. A policy may be a function of a tool call and its exchange, async or not. A policy may also be a mapping from tool
   patterns to policies or decisions, or a list of policies.
2. In a mapping, the exact name of the tool has priority. If no key is the exact name, the patterns are tried in their
   order (`*` and `?` are wildcards). Patterns are matched with names, never with arguments.
3. `escalate` leaves the decision to the next matching pattern, then to the next policy. If no policy decides, the call
   is rejected.
4. A policy that raises, or does not return a decision, has failed: the exception is raised to the program, and the
   agent gets a 500. So no tool runs without a decision.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from os import PathLike
from typing import TYPE_CHECKING, ForwardRef, TypeAlias, Union, get_args

import msgspec
import trio

from .._canonical.content import Json, ToolCall
from .._canonical.form import arguments_value
from .._canonical.given import fit_json
from .._trace.turn import Decided, DecisionKind
from .._util.checks import check_choice, described, named, takes
from .._util.unicode import mended_text
from ..errors import DialectError
from .exchange import Exchange, core_of
from .functions import awaited
from .mistakes import is_pattern
from .questions import ASKED

UNDECIDED = "no policy allows this tool call"
"""Reason of a rejection if no policy has given a reason."""

NO_POLICY = "default"
"""Value of `Decided.by` if no policy has made a decision."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision about a tool call, such as `Decision.approve()` or `Decision.reject("not allowed")`."""

    kind: DecisionKind
    arguments: str | None = None
    """The changed arguments of the call, as text."""
    reason: str = ""
    by: str = ""
    """Name of the policy or person that decided. If it is empty, the record contains the name of the policy's function,
    or the pattern."""

    def __post_init__(self) -> None:
        """Raise an error if the kind is unknown, or if `reason`, `by` or `arguments` is not a str."""
        check_choice("kind", self.kind, DecisionKind)
        for name in ("reason", "by", "arguments"):
            text: object = getattr(self, name)
            if text is None and name == "arguments":
                continue
            if not isinstance(text, str):
                raise TypeError(f"Decision.{self.kind}: {name} must be a text, not {described(text)}")
            if not text.isascii() and (mended := mended_text(text)) != text:
                msgspec.structs.force_setattr(self, name, mended)

    @property
    def denial(self) -> str:
        """Text of the failed tool result that the model gets after a rejection."""
        return f"The tool call was rejected: {self.reason}"

    @classmethod
    def approve(cls, *, by: str = "") -> Decision:
        """Return a decision that allows the agent to run the tool call."""
        return cls(kind="approve", by=by)

    @classmethod
    def modify(cls, arguments: Json, *, by: str = "") -> Decision:
        """Return a decision that makes the agent run the tool call with other arguments.

        Args:
            arguments: the new arguments as a JSON value, usually a dict. For a tool that takes free text, this is the
                text.
            by: name of the policy or person that decided.

        Raises:
            TypeError: the arguments are not JSON.
        """
        try:
            text = (
                arguments if isinstance(arguments, str) else msgspec.json.encode(fit_json(arguments)).decode()
            )
        except (TypeError, ValueError) as exc:
            raise TypeError(
                f"the arguments of Decision.modify must be JSON, not {described(arguments)} ({exc})"
            ) from None
        return cls(kind="modify", arguments=text, by=by)

    @classmethod
    def reject(cls, reason: str = UNDECIDED, *, by: str = "") -> Decision:
        """Return a decision that forbids the agent to run the tool call.

        The model gets a failed tool result with the reason.
        """
        return cls(kind="reject", reason=reason, by=by)

    @classmethod
    def answer(cls, text: str, *, by: str = "") -> Decision:
        """Return a decision that sends the agent `text` in place of the model's answer."""
        return cls(kind="answer", reason=text, by=by)

    @classmethod
    def terminate(cls, reason: str, *, by: str = "") -> Decision:
        """Return a decision that ends the rollout. The agent's calls are then refused with 404 and the reason."""
        return cls(kind="terminate", reason=reason, by=by)

    @classmethod
    def escalate(cls) -> Decision:
        """Return a decision that leaves the tool call to the next policy."""
        return cls(kind="escalate")


PolicyFunction: TypeAlias = Callable[[ToolCall, Exchange], Decision | Awaitable[Decision]]
if TYPE_CHECKING:
    _Policy: TypeAlias = "Policy"
else:  # for `get_type_hints` of another module
    _Policy = ForwardRef("Policy", module=__name__)
Policy: TypeAlias = Union[PolicyFunction, Mapping[str, Union[_Policy, Decision]], Sequence[_Policy]]  # noqa: UP007
"""A function `policy(call, exchange)`, a mapping from tool patterns to policies or decisions, or a list of policies.

See `approve`."""


def check_policy(policy: object, place: str = "the policy") -> None:
    """Raise an error if `policy` is not a policy.

    The error's text names the invalid part, for example `the policy['Bash']`, where `place` is `the policy`.

    Raises:
        TypeError: a function does not take two arguments, a pattern is not a text, or a value is neither a policy nor a
            decision.
        ValueError: a mapping or a list is empty.
    """
    if isinstance(policy, Mapping):
        if not policy:
            raise ValueError(
                f"{place} must not be empty: it would reject every call. If you want that, write "
                "{'*': Decision.reject(…)}"
            )
        for pattern, value in policy.items():
            if not isinstance(pattern, str) or not pattern:
                raise TypeError(
                    f"{place}: a key must be the name of a tool or a pattern, not {described(pattern)}"
                )
            if not isinstance(value, Decision):
                check_policy(value, f"{place}[{pattern!r}]")
    elif isinstance(policy, Sequence) and not isinstance(policy, str):
        if not policy:
            raise ValueError(f"{place} must not be an empty list: it would reject every call")
        for number, each in enumerate(policy):
            check_policy(each, f"{place}[{number}]")
    elif not callable(policy) or isinstance(policy, type) or not takes(policy, 2):
        form = "a function policy(call, exchange), a mapping from tools to policies or decisions, or a list of policies"
        raise TypeError(f"{place} must be {form}, not {described(policy)}{_hint(policy)}")


def _hint(policy: object) -> str:
    if isinstance(policy, str | PathLike):
        words = get_args(DecisionKind)
        return (
            f"; write Decision.{policy}(…)"
            if policy in words
            else f"; to read a policy from a file, write read_policy({str(policy)!r})"
        )
    if isinstance(policy, Decision):
        return f'; for this decision on every tool, write {{"*": Decision.{policy.kind}(…)}}'
    return f"; {named(policy)} must take two arguments (call, exchange)" if callable(policy) else ""


def names_beside_patterns(policy: Policy) -> Iterator[str]:
    """Yield the exact tool names in mappings that also have patterns.

    If such a name is mistyped, a pattern could match the tool's real name. Then the policy of the pattern decides, and
    no error shows the mistake.
    """
    if isinstance(policy, Mapping):
        names = [name for name in policy if not is_pattern(name)]
        yield from names if len(names) < len(policy) else ()
        for value in policy.values():
            if not isinstance(value, Decision):
                yield from names_beside_patterns(value)
    elif isinstance(policy, Sequence):
        for each in policy:
            yield from names_beside_patterns(each)


def patterns_of(policy: Policy | Decision) -> Iterator[str]:
    """Yield every tool name and pattern in the mappings of a policy."""
    if isinstance(policy, Mapping):
        yield from policy
        for value in policy.values():
            yield from patterns_of(value)
    elif isinstance(policy, Sequence):
        for each in policy:
            yield from patterns_of(each)


async def decide(
    policy: Policy,
    call: ToolCall,
    exchange: Exchange,
    timeout: float | None,
    *,
    at_gate: Callable[[Decision], bool] = lambda decision: False,
) -> tuple[Decision, Decided]:
    """Return the decision of `policy` about a tool call, and the record of this decision.

    If no policy decides, the call is rejected.

    Args:
        policy: the policy.
        call: the tool call.
        exchange: the exchange whose answer contains the call.
        timeout: maximum seconds. When exceeded: the call is rejected. If None, wait without a limit.
        at_gate: returns True if the agent's hook carries out the decision.

    Raises:
        TypeError: a policy function did not return a decision. This error is also raised if the decision contains new
            arguments that are not a JSON object, although the tool takes an object.
        Exception: the exception of a policy function.
    """
    began = trio.current_time()
    agents = core_of(exchange).outermost
    if (events := agents.rollout.records.events) is not None:
        asked = events.asked(agents.id, call)
        of_asked = ASKED.set((agents.rollout.trace.run, asked))
    decision = Decision.escalate()
    try:
        with trio.move_on_after(timeout if timeout is not None else float("inf")) as limit:
            decision = await decision_of(policy, call, exchange)
    finally:
        if events is not None:
            ASKED.reset(of_asked)
    # a function that is not async cannot be cancelled, so its time is compared
    if limit.cancelled_caught or trio.current_time() >= limit.deadline:
        decision = Decision.reject(f"no decision within {timeout:g} seconds", by="timeout")
    elif decision.kind == "escalate":
        decision = Decision.reject(by=NO_POLICY)
    elif decision.kind == "modify" and call.kind == "json" and not is_object(decision.arguments or ""):
        raise TypeError(
            f"Decision.modify: the arguments of {call.name} must be a JSON object, not {decision.arguments!r}"
        )
    decided = Decided(
        call=call.id,
        tool=call.name,
        kind=decision.kind,
        arguments=decision.arguments,
        reason=decision.reason,
        by=decision.by,
        seconds=trio.current_time() - began,
        way="gate" if at_gate(decision) else "answer",
    )
    if events is not None:
        events.decided(agents.id, asked, decided)
    return decision, decided


def is_object(text: str) -> bool:
    return bool(text) and isinstance(arguments_value(text), dict)


def what_is_wrong(text: str) -> str:
    """Return a description of the error in `text`, the arguments of a tool call that a person wrote.

    Return an empty text if `text` is a JSON object.
    """
    from .._util.documents import read_json

    try:
        value = read_json(text, "").json
    except DialectError as exc:
        return f"the arguments must be a JSON object: {exc.problem}"
    if not isinstance(value, dict):
        return f"the arguments must be a JSON object, not {described(value)}"
    rule = (
        "the arguments must be a JSON object of text and values that JSON permits, and not nested too deeply"
    )
    return "" if is_object(text) else rule


async def decision_of(
    policy: Policy | Decision, call: ToolCall, exchange: Exchange, by: str = ""
) -> Decision:
    """Return the decision of a policy about a tool call.

    `by` is the pattern to which the policy belongs in a mapping; empty if it belongs to no mapping.
    """
    if isinstance(policy, Decision):
        return policy if policy.by or policy.kind == "escalate" else msgspec.structs.replace(policy, by=by)
    if isinstance(policy, Mapping):
        names = [call.name] if call.name in policy else []
        names += [name for name in policy if name != call.name and fnmatchcase(call.name, name)]
        matching = [(name, policy[name]) for name in names]
    elif isinstance(policy, Sequence):
        matching = [(by, each) for each in policy]
    else:
        decision: object = await awaited(policy(call, exchange))
        if not isinstance(decision, Decision):
            hint = "; a policy function must return Decision.approve(), Decision.reject(reason) or another Decision"
            raise TypeError(f"{named(policy)} returned {described(decision)}{hint}")
        name = getattr(policy, "__name__", type(policy).__name__)
        return decision if decision.by else msgspec.structs.replace(decision, by=name)
    for name, each in matching:
        if (found := await decision_of(each, call, exchange, name)).kind != "escalate":
            return found
    return Decision.escalate()
