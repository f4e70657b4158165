"""The gate of a rollout, which decides about tool calls before the agent runs the tools.

The agent's own hook sends the gate a question before a tool runs, and may send a second question after the tool has
run.

Rules:

1. The gate stores each tool call of an answer before the agent gets the end of the answer. A question belongs to the
   newest call without a result that has the question's id, tool and arguments. If the model has used the id only once,
   the id alone identifies the call. If the agent's hooks send no ids, equal calls of an answer get equal decisions. If
   several calls match a question, and one of these calls is rejected, the answer to the question is a rejection.
2. If `approve` has rejected or modified the call, the gate answers with that decision. If not, the policy of the gate
   decides about the call, once, even if no answer of the model contains this call. A gate without a policy allows the
   calls of the model, and rejects all others.
3. Each tool result in the agent's next model call is compared with the questions. A tool call has bypassed the gate if
   it has a result, but the gate got no question about the call, or did not answer it. A rejected call has bypassed the
   gate if its result does not contain the rejection.
4. If the agent itself returns a result, without running a tool, no question is needed. Examples are errors about an
   unknown tool, or about arguments that the tool does not take.
5. If a policy raises, the exception is raised to the program, and the gate answers with a rejection. The gate does not
   answer with an error status, because some agents run the tool after an error.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import msgspec
import trio

from .._canonical.agent_calls import calls_in, is_item, results_in
from .._canonical.content import Json, ToolCall, ToolResult
from .._canonical.form import arguments_value
from .._canonical.request import offered_names
from .._canonical.response import Response
from .._trace.turn import Decided
from .._util.checks import check_callable, check_choice, named, takes
from ..errors import GateBypassed, Refusal
from .decision import Decision, Policy, check_policy, decide, names_beside_patterns
from .exchange import Exchange, core_of
from .exchange_state import ExchangeState
from .functions import awaited
from .hooks import NEUTRAL, Answer, Hook, Question
from .mistakes import UnofferedTools
from .tools import json_of

if TYPE_CHECKING:
    from .rollout_state import RolloutState

OnBypass: TypeAlias = Literal["end", "report"]
"""Effect of a tool that ran without a decision: `end` ends the rollout with `GateBypassed`, `report` only logs and
records it."""

AfterTool: TypeAlias = Callable[[ToolCall, Json, Exchange], Json | Awaitable[Json]]
"""A function `(call, result, exchange) -> result that the model gets`, async or not.

`result` is the JSON value that the agent's hook sent: a text or a dict, depending on the agent and the tool. If the
function returns None, the model gets the tool's own result.
"""

_FLAGGED = frozenset({"anthropic_messages", "gemini"})
"""Dialects with a field that marks a tool result as failed. Agents also mark the errors that they generate
themselves."""
_REASON = 60
"""Number of letters, from the start of each of the first two lines of a rejection, that the tool's result must
contain."""
_NOT_PROPOSED = "no answer of the model contains this tool call"
_INTERRUPTED = re.compile(r"\[Request interrupted by user[^\]]*\]")
"""Pattern of the tool results that agents write for calls that the user has interrupted. Claude Code, and agents
derived from it, write such results."""


@final
class Gate:
    """Options of a rollout's gate: `open_rollout(gate=Gate(policy, after=check))`.

    Args:
        before: the policy that decides before a tool runs. If None, only the decisions of `approve` are applied.
        after: a function `(call, result, exchange)`, called after a tool ran. If the function returns a result, the
            model gets this result in place of the tool's result. If the function returns None, the model gets the
            tool's result.
        on_bypass: the effect of a tool that ran without a decision. `end`: the rollout ends with `GateBypassed`.
            `report`: the bypass is logged, and recorded among the service calls. None means `end` if the agent's
            dialect marks failed results, else `report`.

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
    if isinstance(given, Gate):
        return given
    check_policy(given, "gate")
    policy: Any = given
    return Gate(policy)


@dataclass(eq=False)
class _Call:
    """A tool call of the model that has no result yet, with the questions and decisions about it."""

    call: ToolCall
    exchange: ExchangeState
    """The exchange whose answer contains the call."""
    fixed: Decision | None = None
    """The decision of `approve`."""
    asked: Question | None = None
    """The latest question that the agent's hook has sent about the call."""
    decision: Decision | None = None
    """The decision that the gate has returned for this call, or for an equal call of the same answer."""
    decided: Decided | None = None
    """The record of the decision, if the policy of the gate made it."""
    shown: bool = False
    """True if the gate got a question about the call after its tool ran."""
    deciding: trio.Lock = field(default_factory=trio.Lock)
    at: float = field(default_factory=time.time)


@final
class GateState:
    """The state of the gate of one rollout.

    Args:
        rollout: the rollout.
        given: the rollout's argument `gate=`. If None, the gate becomes active when the agent's hook is configured.
    """

    hook: Hook | None = None
    """The hook of the rollout's agent. None until the hook is configured, when the agent is started."""

    def __init__(self, rollout: RolloutState, given: Gate | None) -> None:
        self._rollout = rollout
        self.given: bool = given is not None
        """True if the rollout was opened with a gate."""
        self._gate = given or Gate()
        self.active: bool = given is not None
        """True if tool results are compared with questions, because `gate=` was given or the agent's hook is
        configured."""
        self._unoffered = UnofferedTools(
            "the policy of the gate", names_beside_patterns(self._gate.before or [])
        )
        self._open: list[_Call] = []
        """Calls of the model without a result, from old to new."""
        self._early: list[_Call] = []
        """Calls that the gate got to know before their answer was complete: by a decision of `approve`, or by a
        question."""
        self._ids: Counter[str] = Counter()
        """Number of the model's calls with each id. (Some models number the calls of each answer from 0, and so repeat
        ids.)"""
        self._latest: ExchangeState | None = None
        """The latest exchange that was answered."""

    def take(self, hook: Hook) -> tuple[Literal["before", "after"], ...]:
        """Store `hook`, the agent's hook, if the rollout needs a gate.

        Return the events on which the agent must run the hook.

        The event `before` occurs before a tool runs, and `after` occurs after a tool has run.

        Raises:
            ValueError: the gate has `after`, but the agent's hook cannot replace results.
        """
        if not self.given and not getattr(self._rollout.handler, "_decides_calls", False):
            return ()
        if self._gate.after is not None and not hook.replaces:
            raise ValueError(
                f"the hook of {hook.agent} cannot replace results of tools: open the rollout without Gate(after=…)"
            )
        self.hook, self.active = hook, True
        return ("before",) if self._gate.after is None else ("before", "after")

    # The model's calls

    def add(self, exchange: ExchangeState, response: Response | None) -> None:
        """If the gate is active, store an answer's tool calls, before the agent gets the end of the answer."""
        if response is None:
            return
        early = [
            known
            for known in self._early
            if known.exchange is exchange or (known.asked and known.at >= exchange.started_at)
        ]
        for call in calls_in(response.content):
            self._ids[call.id] += 1
            known = next((each for each in early if self._is_early(each, call)), None)
            if known is None:
                known = _Call(call, exchange)
            else:
                early.remove(known)
                self._early.remove(known)
            known.call, known.exchange = call, exchange
            self._open.append(known)
        self._latest = exchange
        began = min([each.started_at for each in self._rollout.calls.open], default=exchange.started_at)
        self._early = [known for known in self._early if known.at >= began]

    def _is_early(self, known: _Call, call: ToolCall) -> bool:
        """Return True if `call`, a call of the model's answer, is the call that the gate has already stored as `known`.

        The gate stores a call before the answer is complete if the gate gets a decision or a question about the call.

        If the model has used the id of `call` several times, the tool and the arguments must be equal, too.
        """
        equal = self._matches(known, *_content(call))
        return equal if not known.call.id else known.call.id == call.id and (equal or self._ids[call.id] == 1)

    def carries_out(self, call: ToolCall, decision: Decision) -> bool:
        """Return True if the agent's hook can carry out a decision of `approve`.

        If the hook cannot, `approve` changes the model's answer.
        """
        hook = self.hook
        if hook is None or call.name in hook.unasked or is_item(call):
            return False
        if decision.kind == "modify":
            return hook.modifies(call, arguments_value(decision.arguments or ""))
        return decision.kind in ("approve", "reject")

    def first_equal(self, calls: Sequence[ToolCall], place: int) -> int:
        """Return the index of the first call in `calls` that must get the same decision as `calls[place]`.

        If the hook sends ids, each call gets its own decision.
        """
        if self.hook is None or self.hook.ids:
            return place
        return next(first for first, call in enumerate(calls) if _content(call) == _content(calls[place]))

    def fix(self, call: ToolCall, decision: Decision, exchange: Exchange) -> None:
        self._early.append(_Call(call, core_of(exchange), decision))

    # The agent's questions

    async def ask(self, hook: Hook, question: Question) -> Json:
        """Return the gate's answer to a question, as JSON for the agent's hook. If the policy raises, reject the call.

        Raises:
            Refusal: see `ServiceCalls.run`. After a refusal, the agent must not run the tool.
        """
        if not self.active:
            text = f"rollout {self._rollout.id} has no gate: pass gate= to open_rollout"
            raise Refusal(404, text, should_retry=False)
        alike = self._alike(question)
        known = next((each for each in alike if not (each.shown if question.after else each.asked)), None)
        known = known or (alike[0] if alike else self._unknown(question))
        if known is not None:
            self._unoffered.check(known.exchange.request, warns=True)
            known.shown = known.shown or question.after
            known.asked = known.asked if question.after else question
        rendered: Json = None

        async def run() -> Json:
            nonlocal rendered
            work = self._after if question.after else self._before
            record, answer = await work(hook, question, known, alike)
            rendered = hook.render(question, answer)
            return record

        arguments = {"arguments": question.arguments, "id": question.id}
        if question.after:
            arguments["result"] = question.result
        calls = self._rollout.services.calls
        try:
            await calls.run(self._rollout, "gate", question.tool, arguments, run, owned=True)
        except Refusal as refusal:
            if known is None or question.after or self._rollout.ending is not None:
                raise
            # reject, because some agents run the tool if the response has an error status
            known.decision = Decision.reject(refusal.message, by="gate")
            return hook.render(question, Answer(reason=known.decision.denial))
        return rendered

    def _unknown(self, question: Question) -> _Call | None:
        """Return a new `_Call` for a question about a call that is not in any answer of the model so far.

        Return None if the model was not called yet.
        """
        exchange = next(reversed(self._rollout.calls.open), self._latest)
        if exchange is None:
            return None
        text = msgspec.json.encode(question.arguments).decode()
        known = _Call(ToolCall(question.tool, text, question.id), exchange)
        if self._gate.before is None:
            known.fixed = Decision.reject(_NOT_PROPOSED, by="gate")
        self._early.append(known)
        return known

    async def _before(
        self, hook: Hook, question: Question, known: _Call | None, alike: Sequence[_Call]
    ) -> tuple[Json, Answer]:
        if known is None:
            decision = Decision.reject(_NOT_PROPOSED, by="gate")
            return msgspec.to_builtins(decision), Answer(reason=decision.denial)
        # without ids, equal calls of one answer cannot be distinguished
        first = (
            known
            if question.id
            else next((each for each in reversed(alike) if each.exchange is known.exchange), known)
        )
        async with first.deciding:
            if first.decision is None:
                first.decision = await self._decide(hook, first, alike)
            known.decision = decision = first.decision
            known.decided = first.decided and msgspec.structs.replace(first.decided, call=known.call.id)
        arguments = arguments_value(decision.arguments or "") if decision.kind == "modify" else None
        allowed = decision.kind in ("approve", "modify")
        return msgspec.to_builtins(decision), Answer(allowed, "" if allowed else decision.denial, arguments)

    async def _decide(self, hook: Hook, known: _Call, alike: Sequence[_Call]) -> Decision:
        rejected = (each.fixed or each.decision for each in alike)
        decision = next((each for each in rejected if each and each.kind == "reject"), known.fixed)
        decision = decision or Decision.approve()
        if decision.kind == "approve" and self._gate.before is not None:
            exchange = Exchange(known.exchange, self._rollout.public)
            decision, known.decided = await decide(
                self._gate.before, known.call, exchange, None, at_gate=lambda _: True
            )
        cannot = decision.kind == "modify" and not hook.modifies(
            known.call, arguments_value(decision.arguments or "")
        )
        if decision.kind == "answer" or cannot:
            text = f"the hook of {hook.agent} cannot carry out Decision.{decision.kind} at the gate"
            raise TypeError(f"{text}: use approve(handler, policy)")
        if decision.kind == "terminate":
            await self._rollout.public.stop(decision.reason)
        return decision

    async def _after(
        self, hook: Hook, question: Question, known: _Call | None, alike: Sequence[_Call]
    ) -> tuple[Json, Answer]:
        result: Json = None
        if known is not None and self._gate.after is not None:
            exchange = Exchange(known.exchange, self._rollout.public)
            made = await awaited(self._gate.after(known.call, question.result, exchange))
            result = json_of(made, "the result of Gate(after)")
        return {"result": result}, Answer(True, result=result)

    def _alike(self, question: Question) -> list[_Call]:
        """Return the tool calls to which `question` possibly refers, the newest first."""
        known = [*reversed(self._open), *reversed(self._early)]
        if question.id:
            known = [each for each in known if each.call.id == question.id]
        equal = [each for each in known if self._matches(each, question.tool, question.arguments)]
        if equal or not question.id or self._ids[question.id] != 1:
            return equal
        return [each for each in known if each not in self._early]  # arguments may be reformatted

    def _matches(self, known: _Call, name: str, arguments: Json) -> bool:
        """Return True if `known` has this name and these arguments, as written by the model or changed by a decision.

        `name` and `arguments` come from the agent's messages or questions.
        """
        call, content = known.call, (self.hook or NEUTRAL).content
        modified = [each.arguments for each in (known.fixed, known.decision) if each and each.arguments]
        forms = [(call.name, arguments_value(text)) for text in (call.arguments, *modified)]
        return (name, arguments) in (*forms, *(content(*form) for form in forms))

    # The results

    def bypassed(self, exchange: ExchangeState) -> Iterator[tuple[ToolCall, GateBypassed]]:
        """Yield the tool calls with results in the exchange's request that have bypassed the gate, each with its error.

        Decisions that the gate's policy made about calls with results are added to the exchange.
        """
        if not (self.active and self._open):
            return
        calls: dict[str, list[ToolCall]] = {}
        found: list[tuple[ToolResult, ToolCall | None, int]] = []
        said = -1  # the index of the model's last message
        for place, message in enumerate(exchange.request.messages):
            if message.role == "assistant":
                said = place
                own = calls_in(message.content)
                calls |= {call.id: [each for each in own if each.id == call.id] for call in own}
            for result in results_in(message):
                same = calls.get(result.id, [])
                found.append((result, same[0] if same else None, place))
                del same[: len(same) > 1]  # calls of an answer with the same id have their results in order
        for result, call, place in reversed(found):
            known = self._call_of(result, call, latest=place > said, ids=calls.keys())
            if known is None:
                continue
            problem = self._problem(known, result)
            if problem is not None and (other := self._asked_for(known, result)) is not None:
                known.call, other.call = other.call, known.call
                known.exchange, other.exchange = other.exchange, known.exchange
                known, problem = other, None
            self._open.remove(known)
            if known.decided is not None and known.asked is not None:
                exchange.decisions = (known.decided, *exchange.decisions)
            if problem is not None:
                text = (
                    f"rollout {self._rollout.id}: the tool call {known.call.name} ({known.call.id}) {problem}"
                )
                yield known.call, GateBypassed(f"{text}: check the hooks in the agent's configuration")

    def _call_of(
        self, result: ToolResult, call: ToolCall | None, *, latest: bool, ids: Collection[str]
    ) -> _Call | None:
        """Return the call in `_open` to which `result`, a tool result in the agent's messages, belongs.

        `call` is the tool call to which the agent's messages assign this result; None if they contain no such call.
        `ids` are the ids of the tool calls in the agent's messages.

        If the model has never used the result's id, the agent has changed the id. In this case, and if the model has
        used the id several times, return a call only if `latest` is True: the result comes after the model's last
        message.
        """
        uses = self._ids[result.id]
        if uses != 1 and not latest:
            return None
        known = [
            each
            for each in reversed(self._open)
            if (each.call.id == result.id if uses else each.call.id not in ids)
        ]
        equal = [] if call is None else [each for each in known if self._matches(each, *_content(call))]
        candidates = equal or (known if uses else [])
        fitting = (each for each in candidates if self._problem(each, result) is None)
        return next(chain(fitting, candidates), None)

    def _asked_for(self, known: _Call, result: ToolResult) -> _Call | None:
        """Return another call, equal to `known`, if the agent's question about that call was possibly about `known`.

        This is possible if the question has no id, and if the decision about the other call fits `result`. Return None
        if there is no such call.
        """
        asked = (each for each in self._open if each.asked is not None and not each.asked.id)
        equal = (each for each in asked if _content(each.call) == _content(known.call))
        return next((each for each in equal if self._problem(each, result) is None), None)

    def ends(self, exchange: ExchangeState) -> bool:
        return (self._gate.on_bypass or ("end" if exchange.dialect in _FLAGGED else "report")) == "end"

    def _problem(self, known: _Call, result: ToolResult) -> str | None:
        hook, decision = self.hook, known.decision
        if hook is not None and known.call.name in hook.unasked:
            return None
        if is_item(known.call) and self._gate.before is None:  # `approve` has decided in the answer
            return None
        if decision is None or known.asked is None:
            if self._is_own(known, result):
                return None
            answered = (
                "the gate has not answered the hook's question"
                if known.asked
                else "the agent's hook never asked the gate"
            )
            return f"has a result, but {answered} about this call"
        if decision.kind in ("reject", "terminate"):
            text, lines = _letters(result.text), decision.denial.split("\n", 2)[:2]
            if all(_letters(line)[:_REASON] in text for line in lines):
                return None
            return "was rejected at the gate, but its result does not contain the reason of the rejection"
        if self._gate.after is not None and not (known.shown or result.is_error):
            return "has a result that the agent's hook has not sent to the gate"
        return None

    def _is_own(self, known: _Call, result: ToolResult) -> bool:
        """Return True if the agent itself has made `result` for the call `known`, without running a tool."""
        if _INTERRUPTED.fullmatch(result.text):
            return True
        if self.hook is not None and self.hook.own_errors is not None:
            return re.match(self.hook.own_errors, result.text) is not None
        call = known.call
        broken = call.kind == "json" and not isinstance(arguments_value(call.arguments), dict)
        offered = is_item(call) or call.name in offered_names(known.exchange.request)
        return result.is_error or broken or not offered


def _content(call: ToolCall) -> tuple[str, Json]:
    return call.name, arguments_value(call.arguments)


def _letters(text: str) -> str:
    return re.sub(r"\W+", "", text)
