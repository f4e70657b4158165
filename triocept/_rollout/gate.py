"""The gate of a rollout: the agent's own hook sends a question before a tool runs, and perhaps another afterwards.

Rules:

1. Each tool call of an answer is added to the gate before the agent gets the end of that answer. The id in a question
   identifies the call. If the agent's hooks send no ids, the question is about all calls of this tool with these
   arguments. Equal calls then get equal decisions: if one of them is rejected, all are.
2. If `approve` has decided about the call, the gate answers with its decision. Otherwise the policy of the gate
   decides, also about a call that no answer of the model contains. Without a policy, such a call is rejected.
3. Each tool result in the agent's next call is compared with the questions. A tool call has bypassed the gate if it has
   a result, but its question was not asked or not answered. It also has if it was rejected, and its result does not
   contain the reason.
4. A result that the agent itself has made, without running a tool, needs no question. Examples are errors about an
   unknown tool, or about arguments that the tool does not take.
5. If a policy raises, the exception is raised to the program, and the hook gets an error, not a decision.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import msgspec

from .._canonical.content import Json, ToolCall, ToolResult
from .._canonical.form import arguments_value
from .._canonical.request import Request, offered_names
from .._canonical.response import Response
from .._util.checks import check_callable, check_choice, named, takes
from ..errors import GateBypassed, Refusal
from .decision import Decision, Policy, check_policy, decide
from .exchange import Exchange, core_of
from .exchange_state import ExchangeState
from .functions import awaited
from .hooks import Answer, Hook, Question
from .tools import json_of

if TYPE_CHECKING:
    from .rollout_state import RolloutState

OnBypass: TypeAlias = Literal["end", "report"]
"""The effect of a tool that ran without a decision: the rollout ends with `GateBypassed`, or the tool is only
reported."""

AfterTool: TypeAlias = Callable[[ToolCall, Json, Exchange], Json | Awaitable[Json]]
"""`(call, result, exchange) -> the result that the model gets`, async or not; None leaves the result as it is."""

_FLAGGED = frozenset({"anthropic_messages", "gemini"})
"""Dialects that mark failed tool results. Agents set this mark for their own errors, too."""
_REASON = 60
"""Number of letters of a rejection's reason that the tool's result must contain."""


@final
class Gate:
    """Options of a rollout's gate: `open_rollout(gate=Gate(policy, after=check))`.

    Args:
        before: the policy that decides before a tool runs. If None, only the decisions of `approve` count.
        after: a function `(call, result, exchange)`, called after a tool ran. Its result replaces the tool's; None
            leaves it as it is.
        on_bypass: the effect of a tool that ran without a decision. `end`: the rollout ends with `GateBypassed`.
            `report`: it is logged, and recorded among the service calls. None means `end` if the agent's dialect marks
            failed results, else `report`.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        before: Policy | None = None,
        *,
        after: AfterTool | None = None,
        on_bypass: OnBypass | None = None,
    ) -> None:
        if before is not None:
            check_policy(before, "Gate(before)")
        if after is not None:
            form = "a function (call, result, exchange)"
            check_callable("Gate(after)", after, form)
            if not takes(after, 3):
                raise TypeError(f"Gate(after) must be {form}; {named(after)} does not take three arguments")
        if on_bypass is not None:
            check_choice("on_bypass", on_bypass, OnBypass)
        self.before: Policy | None = before
        self.after: AfterTool | None = after
        self.on_bypass: OnBypass | None = on_bypass

    def __repr__(self) -> str:
        return f"Gate({self.before!r}, after={self.after!r}, on_bypass={self.on_bypass!r})"


def gate_of(given: object) -> Gate:
    """Return the argument `gate=` of a rollout as a gate; raise TypeError if it is neither a gate nor a policy."""
    if isinstance(given, Gate):
        return given
    check_policy(given, "gate")
    policy: Any = given
    return Gate(policy)


@dataclass(eq=False)
class _Call:
    """A tool call that has no result yet."""

    call: ToolCall
    exchange: ExchangeState
    """The exchange whose answer contains the call."""
    fixed: Decision | None = None
    """The decision of `approve`."""
    asked: bool = False
    decision: Decision | None = None
    """The decision that the agent's hook got."""
    shown: bool = False
    """True if the gate got a question after the tool ran."""
    early: bool = False
    """True if the gate got a question about the call before an answer contained it."""


@final
class GateState:
    """The gate of one rollout.

    Args:
        rollout: the rollout.
        given: the gate of the rollout's options. If None, the gate is active only if the agent's hook is configured.
    """

    hook: Hook | None = None
    """The hook of the rollout's agent, once a launch has configured it."""

    def __init__(self, rollout: RolloutState, given: Gate | None) -> None:
        self._rollout = rollout
        self.given: bool = given is not None
        """True if the rollout was opened with a gate."""
        self._gate = given or Gate()
        self.active: bool = given is not None
        """True if results are compared with questions: the rollout has a gate, or its agent's hook is configured."""
        self._calls: dict[str, _Call] = {}
        """Calls without a result, by id."""
        self._latest: ExchangeState | None = None
        """The latest exchange that was answered."""

    def take(self, hook: Hook) -> tuple[Literal["before", "after"], ...]:
        """Store the agent's hook, if the rollout needs a gate. Return the hook's events that must be configured.

        Raises:
            ValueError: the hook cannot do what the gate needs.
        """
        if not self.given and not getattr(self._rollout.handler, "_decides_calls", False):
            return ()
        if self._gate.after is not None and not hook.replaces:
            raise ValueError(
                f"{hook.agent} cannot replace results in its hook: open the rollout without Gate(after=…)"
            )
        self.hook, self.active = hook, True
        return ("before",) if self._gate.after is None else ("before", "after")

    # The model's calls

    def add(self, exchange: ExchangeState, response: Response | None) -> None:
        """Add the tool calls of an answer to an active gate, before the agent gets the end of the answer."""
        if response is not None:
            self._latest = exchange
            for call in response.tool_calls:
                known = self._calls.get(call.id)
                if known is None or not (known.early or known.exchange is exchange):
                    known = self._calls[call.id] = _Call(call, exchange)
                known.call, known.exchange, known.early = call, exchange, False

    def carries_out(self, call: ToolCall, decision: Decision) -> bool:
        """Return True if the agent's hook can carry out a decision of `approve`; if not, `approve` does."""
        hook = self.hook
        if hook is None or call.name in hook.unasked:
            return False
        if decision.kind == "modify":
            return hook.modifies(call, arguments_value(decision.arguments or ""))
        return decision.kind in ("approve", "reject")

    def first_equal(self, calls: Sequence[ToolCall], place: int) -> int:
        """Return the index of the first of these calls that must get the same decision as the call at index `place`."""
        if self.hook is None or self.hook.ids:
            return place
        return next(first for first, call in enumerate(calls) if _content(call) == _content(calls[place]))

    def fix(self, call: ToolCall, decision: Decision, exchange: Exchange) -> None:
        """Store the decision of `approve` about a tool call, before the agent gets the call."""
        self._calls[call.id] = _Call(call, core_of(exchange), decision)

    # The agent's questions

    async def ask(self, hook: Hook, question: Question) -> Json:
        """Return the answer to a question, in the form of the agent's hook.

        Raises:
            Refusal: as in `ServiceCalls.run`; the tool must not run then.
        """
        if not self.active:
            raise Refusal(404, f"rollout {self._rollout.id} has no gate", should_retry=False)
        rendered: Json = None

        async def run() -> Json:
            nonlocal rendered
            record, answer = await (self._after(question) if question.after else self._before(hook, question))
            rendered = hook.render(question, answer)
            return record

        arguments = {"arguments": question.arguments, "id": question.id}
        if question.after:
            arguments["result"] = question.result
        calls = self._rollout.services.calls
        await calls.run(self._rollout, "gate", question.tool, arguments, run, owned=True)
        return rendered

    async def _before(self, hook: Hook, question: Question) -> tuple[Json, Answer]:
        alike = self._alike(question)
        known = next((each for each in alike if not each.asked), alike[0] if alike else None)
        if known is None:
            if self._gate.before is None or self._latest is None:
                decision = Decision.reject("no answer of the model contains this tool call", by="gate")
                return msgspec.to_builtins(decision), Answer(reason=decision.reason)
            text = msgspec.json.encode(question.arguments).decode()
            known = _Call(ToolCall(question.tool, text, question.id), self._latest, early=True)
            self._calls[question.id or f"?{len(self._calls)}"] = known
        known.asked = True
        rejected = (one.fixed or one.decision for one in alike)
        decision = next(
            (one for one in rejected if one and one.kind == "reject"), known.fixed or Decision.approve()
        )
        if decision.kind == "approve" and self._gate.before is not None:
            exchange = Exchange(known.exchange, self._rollout.public)
            decision, _ = await decide(self._gate.before, known.call, exchange, None, at_gate=lambda _: True)
        arguments = arguments_value(decision.arguments or "") if decision.kind == "modify" else None
        cannot = decision.kind == "modify" and not hook.modifies(known.call, arguments)
        if decision.kind == "answer" or cannot:
            text = f"Decision.{decision.kind} cannot be carried out at the gate of {hook.agent}"
            raise TypeError(f"{text}: use approve(handler, policy)")
        if decision.kind == "reject" and not _letters(decision.reason):
            decision = Decision.reject(by=decision.by)
        if decision.kind == "terminate":
            await self._rollout.public.stop(decision.reason)
        known.decision = decision
        allowed = decision.kind in ("approve", "modify")
        return msgspec.to_builtins(decision), Answer(allowed, decision.reason, arguments)

    async def _after(self, question: Question) -> tuple[Json, Answer]:
        alike = self._alike(question)
        known = next((each for each in alike if not each.shown), alike[0] if alike else None)
        result: Json = None
        if known is not None:
            known.shown = True
            if self._gate.after is not None:
                exchange = Exchange(known.exchange, self._rollout.public)
                result = json_of(
                    await awaited(self._gate.after(known.call, question.result, exchange)), "the result"
                )
        return {"result": result}, Answer(True, result=result)

    def _alike(self, question: Question) -> list[_Call]:
        """Return the calls that a question may belong to."""
        if question.id:
            return [self._calls[question.id]] if question.id in self._calls else []
        content = (question.tool, question.arguments)
        return [each for each in self._calls.values() if _content(each.call) == content]

    # The results

    def bypassed(self, request: Request) -> Iterator[tuple[ToolCall, GateBypassed]]:
        """Yield the tool calls with a result in this request that have bypassed the gate, each with its error."""
        if not (self.active and self._calls):
            return
        for message in request.messages:
            for result in message.tool_results:
                known = self._calls.pop(result.id, None)
                if known is not None and (problem := self._problem(known, result)) is not None:
                    text = f"rollout {self._rollout.id}: {known.call.name} ({known.call.id}) {problem}"
                    yield known.call, GateBypassed(f"{text}; check the hooks in the agent's configuration")

    def ends(self, exchange: ExchangeState) -> bool:
        """Return True if a call that has bypassed the gate ends the rollout."""
        return (self._gate.on_bypass or ("end" if exchange.dialect in _FLAGGED else "report")) == "end"

    def _problem(self, known: _Call, result: ToolResult) -> str | None:
        hook, decision = self.hook, known.decision
        if hook is not None and known.call.name in hook.unasked:
            return None
        if decision is None:
            if self._is_own(known, result):
                return None
            return f"has a result, and its question at the gate was {'not answered' if known.asked else 'never asked'}"
        if decision.kind in ("reject", "terminate"):
            first = next(filter(None, map(_letters, decision.reason.split("\n"))), "")
            if first[:_REASON] in _letters(result.text):
                return None
            return "was rejected at the gate, and its result does not contain the reason"
        if self._gate.after is not None and not (known.shown or result.is_error):
            return "has a result that the gate did not get"
        return None

    def _is_own(self, known: _Call, result: ToolResult) -> bool:
        """Return True if the agent has made this result itself, without running a tool."""
        if self.hook is not None and self.hook.own_errors is not None:
            return re.match(self.hook.own_errors, result.text) is not None
        call = known.call
        broken = call.kind == "json" and not isinstance(arguments_value(call.arguments), dict)
        return result.is_error or broken or call.name not in offered_names(known.exchange.request)


def _content(call: ToolCall) -> tuple[str, Json]:
    """Return the name and the arguments of a call: equal calls have both in common."""
    return call.name, arguments_value(call.arguments)


def _letters(text: str) -> str:
    return re.sub(r"\W+", "", text)
