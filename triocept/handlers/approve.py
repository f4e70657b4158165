"""`approve`: a handler that lets a policy decide about each tool call of the model before the agent gets the call.

Rules:

1. The parts of an answer before its first tool call are sent to the agent immediately. The first tool call, and
   everything after it, is not sent until the policy has decided about every call of the answer.
2. Approved and modified calls are sent to the agent. If all calls of an answer are rejected, the model is prompted
   again: the new request also contains the rejected answer, and a failed result for each of its calls. `turn.drafts`
   contains the answers that the agent did not get.
3. The agent's history does not contain a rejected call. In the agent's later requests, this handler replaces the answer
   that the agent got by the model's original answer, and adds a result for each rejected call. So the model still gets
   the rejection, each call has its result, and signed reasoning stays in its original message. If the agent has changed
   or dropped its copy of the answer (compaction), the request is not changed.
4. If the wrapped handler answers with raw bytes whose content is unknown, triocept refuses the exchange, because the
   bytes could contain a tool call.
5. If triocept has configured the agent's own hook when it started the agent (see `gate`), the agent gets the answer
   unchanged, and the hook gets the decisions. If the hook cannot carry out a decision, rule 2 applies to this decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import groupby
from typing import final
from weakref import WeakKeyDictionary

import msgspec
import trio

from .._canonical.agent_calls import call_in, calls_in, failed_result, with_arguments
from .._canonical.content import Message, Opaque, Part, Text, ToolCall, ToolResult
from .._canonical.events import Event, PartDelta, PartStart, ResponseEnd, ResponseStart, begins_call
from .._canonical.form import join_messages, message_key
from .._canonical.request import Request
from .._canonical.response import Response, ResponsePart, settled_stop
from .._rollout.decision import Decision, Policy, check_policy, decide, names_beside_patterns
from .._rollout.draft import OpenDraft, open_draft
from .._rollout.exchange import Exchange, ResponseStream, core_of
from .._rollout.gate import GateState
from .._rollout.handler import Handler, awaiting, check_handler, configured_model
from .._rollout.mistakes import UnofferedTools
from .._rollout.rollout import Rollout
from .._trace.turn import Decided
from .._util.checks import check_count, check_number, with_known_keywords
from .._util.failures import keeping_each, raise_all
from ..errors import Refusal


@with_known_keywords
def approve(
    handler: Handler, policy: Policy, *, timeout: float | None = None, max_rejections: int = 8
) -> Handler:
    """Let a policy decide about tool calls: `approve(model, {"Bash": ask_terminal, "*": Decision.approve()})`.

    Args:
        handler: the handler that answers.
        policy: the policy; see `Policy`. Calls for which the policy returns no decision are rejected.
        timeout: maximum seconds for each decision. When exceeded: the call is rejected. None means no limit. While the
            policy decides, keep-alives are sent to the agent.
        max_rejections: maximum number of answers to one model call of the agent in which all tool calls are rejected.
            When exceeded: the rollout is stopped.

    Raises:
        TypeError, ValueError: an argument is invalid. These errors are also raised while an exchange is answered, if
            the policy returned a value that is not a decision.
        Exception: the exception that the policy raised while an exchange was answered.
    """
    if isinstance(handler, Mapping):
        raise TypeError("approve takes the handler first, and then the policy: approve(handler, policy)")
    check_handler(handler)
    check_policy(policy)
    if timeout is not None:
        check_number("timeout", timeout)
    check_count("max_rejections", max_rejections, least=1)
    return _Approved(awaiting(handler), policy, timeout, max_rejections)


class _Rejections:
    """The model's answers, in one rollout, in which tool calls were rejected.

    The key of each of these answers is the answer that the agent got in its place.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes, bytes], tuple[Message, ...]] = {}

    def add(self, request: Request, sent: tuple[ResponsePart, ...], said: tuple[Message, ...]) -> None:
        """Store the model's messages `said`, which contain the results of its rejected calls.

        `restore` finds these messages by the answer `sent`, which the agent got to `request` in their place.
        """
        self._known[_place(request.messages, Message("assistant", sent))] = said

    def restore(self, request: Request) -> Request:
        """Return `request` with the model's original answers in place of the answers that the agent got."""
        if not self._known:
            return request
        messages: list[Message] = []
        place = 0
        changed = rejected = False
        for role, group in groupby(request.messages, key=lambda message: message.role):
            same = tuple(group)
            said: tuple[Message, ...] | None = None
            if role == "assistant":
                # the agent may send an answer back as several messages: in Responses, text and calls are separate items
                message = join_messages(same)
                said = self._known.get(_place(request.messages[:place], message))
                said = said and _with_ids(said, message.tool_calls)
            place += len(same)
            changed = changed or said is not None
            if rejected and same[0].tool_results:
                same = (_with_results(messages.pop(), same[0], messages[-1]), *same[1:])
            rejected = said is not None and said[-1].role == "tool"
            messages += said or same
        return msgspec.structs.replace(request, messages=tuple(messages)) if changed else request


def _place(before: Sequence[Message], message: Message) -> tuple[int, bytes, bytes]:
    """Return a key with which `message`, an answer, is found again in a later request of the agent.

    The key consists of the number of answers before `message`, the message directly before `message`, and the content
    of `message`. The key does not depend on white space at both ends of a text or on the ids of tool calls, because
    agents change these.
    """
    own = [message for message in before if message.role not in ("system", "developer")]
    texts = "".join([part.text for part in message.content if isinstance(part, Text)]).strip()
    rest = [call_in(part) or part for part in message.content if not isinstance(part, Text)]
    answers = sum(1 for role, _ in groupby(own, key=lambda message: message.role) if role == "assistant")
    plain = Message("assistant", (Text(texts), *rest))
    return answers, message_key(own[-1]) if own else b"", message_key(plain)


def _with_ids(said: tuple[Message, ...], calls: tuple[ToolCall, ...]) -> tuple[Message, ...]:
    """Return the messages `said`, but with the ids of the agent's `calls`, because some agents give calls new ids."""
    *head, full = said if said[-1].role == "assistant" else said[:-1]
    rejected = {result.id for message in said for result in message.tool_results}
    waiting = iter(calls)
    content = tuple(
        msgspec.structs.replace(part, id=call.id)
        if isinstance(part, ToolCall) and part.id not in rejected and (call := next(waiting, None))
        else part
        for part in full.content
    )
    return (*head, msgspec.structs.replace(full, content=content), *said[len(head) + 1 :])


def _with_results(rejected: Message, results: Message, calls: Message) -> Message:
    """Return one message with the tool results of `results` and of `rejected`, in the order of their calls in `calls`.

    `results` is the agent's message; `rejected` contains the results of the rejected calls. The dialects Gemini and
    Messages require that all results of an answer are in one message.
    """
    order = {call.id: place for place, call in enumerate(calls.tool_calls)}

    def place(part: Part) -> int:
        return order.get(part.id, len(order)) if isinstance(part, ToolResult) else len(order) + 1

    content = tuple(sorted((*rejected.content, *results.content), key=place))
    return msgspec.structs.replace(results, content=content)


@final
class _Approved:
    """The handler that `approve` returns."""

    _decides_calls = True
    """True means that this handler decides about tool calls. When triocept starts an agent, it then configures the
    agent's hooks.
    """

    def __init__(self, handler: Handler, policy: Policy, timeout: float | None, max_rejections: int) -> None:
        self._handler = handler
        self._policy = policy
        self._timeout = timeout
        self._max_rejections = max_rejections
        self._unoffered = UnofferedTools("the policy", names_beside_patterns(policy))
        self._rejections: WeakKeyDictionary[Rollout, _Rejections] = WeakKeyDictionary()

    @property
    def _configured_model(self) -> str | None:
        return configured_model(self._handler)

    async def __call__(self, exchange: Exchange) -> None:
        rejections = self._rejections.setdefault(exchange.rollout, _Rejections())
        restored = rejections.restore(exchange.request)
        asked = None if restored is exchange.request else restored
        core = core_of(exchange)
        gate: GateState | None = getattr(core.rollout, "gate", None)  # None for a draft
        gate = gate if gate is not None and gate.hook is not None else None
        said: list[Message] = []
        async with AsyncExitStack() as stack:
            answer = _Answer(exchange, stack)
            for count in range(self._max_rejections):
                async with open_draft(exchange, self._handler, asked, counted=count > 0) as draft:
                    await answer.flow(draft)
                if exchange.settled:
                    return
                response = draft.response
                if response is None:
                    raise Refusal(
                        502,
                        "the model's answer is raw bytes, so its tool calls cannot be approved or rejected",
                        should_retry=False,
                    )
                calls = calls_in(response.content)
                decisions = await self._decide(calls, exchange, gate)
                if core.settled:
                    return
                last = {decision.kind: decision for decision in reversed(decisions)}
                if "terminate" in last:
                    draft.keep("approve", counted=count > 0)
                    await exchange.rollout.stop(last["terminate"].reason)
                    return
                if "answer" in last:
                    await answer.end(draft, (Text(last["answer"].reason),))
                    return
                for place, (call, decision) in enumerate(zip(calls, decisions, strict=True)):
                    if gate is not None and gate.carries_out(call, decision):
                        gate.fix(call, decision, exchange)
                        decisions[place] = Decision.approve()
                whole, kept, results = _carried_out(response, decisions)
                full = Message("assistant", tuple(whole))
                if results:
                    said += [full, Message("tool", results)]
                elif said:
                    said.append(full)
                if not results or calls_in(kept):
                    if said:
                        sent = (*answer.flowed_so_far(), *kept[answer.flowed :])
                        rejections.add(exchange.request, sent, tuple(said))
                    changed = kept != list(response.content)
                    await answer.end(draft, kept[answer.flowed :], changed=changed)
                    return
                draft.adopt()
                draft.keep("approve", counted=True)
                messages = (*(asked or exchange.request).messages, full, Message("tool", results))
                asked = msgspec.structs.replace(asked or exchange.request, messages=messages)
            reason = f"{self._max_rejections} answers of the model in a row contained rejected tool calls"
            await exchange.rollout.stop(reason)

    async def _decide(
        self, calls: Sequence[ToolCall], exchange: Exchange, gate: GateState | None
    ) -> list[Decision]:
        """Run the policy for all `calls` at the same time; return its decisions in the order of the calls."""
        found: list[Decision] = [Decision.reject()] * len(calls)
        core, errors = core_of(exchange), list[BaseException]()
        before, records = core.decisions, dict[int, Decided]()
        equal = [place if gate is None else gate.first_equal(calls, place) for place in range(len(calls))]

        async def decide_one(place: int, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()  # in the order of the calls: a person is asked in this order
            call = calls[place]

            def at_gate(decision: Decision) -> bool:
                return gate is not None and gate.carries_out(call, decision)

            decision, record = await decide(self._policy, call, exchange, self._timeout, at_gate=at_gate)
            for each in [each for each, first in enumerate(equal) if first == place]:
                found[each], records[each] = decision, msgspec.structs.replace(record, call=calls[each].id)
            core.decisions = before + tuple([records[place] for place in sorted(records)])
            if found[place].kind == "terminate":
                nursery.cancel_scope.cancel()

        self._unoffered.check(exchange.request, warns=bool(calls))
        if calls:
            with core.work(), keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    for place in sorted(set(equal)):
                        await nursery.start(partial(decide_one, place))
            raise_all(errors)
        return found


class _Answer:
    """The answer that the agent gets. It may contain parts of several drafts; each draft is an answer of the model."""

    def __init__(self, exchange: Exchange, stack: AsyncExitStack) -> None:
        self.exchange = exchange
        self._stack = stack
        self._stream: ResponseStream | None = None
        self._count = 0
        """Number of parts of earlier drafts that were sent to the agent."""
        self.flowed = 0
        """Number of parts of the current draft, before its first tool call, that were sent to the agent."""

    async def flow(self, draft: OpenDraft) -> None:
        """Read `draft`, and send the agent the parts of the draft that come before its first tool call."""
        self._count, self.flowed, calls = self._count + self.flowed, 0, False
        # True if text of an earlier draft was sent; the next text must then be separated from this text.
        joins = any(isinstance(part, Text) and part.text for part in self.flowed_so_far())
        async for event in draft:
            match event:
                case ResponseStart():
                    if self._stream is None:
                        draft.adopt()
                        self._stream = await self._stack.enter_async_context(self.exchange.open_stream())
                        await self._stream.send(event)
                case PartStart(index=index, part=part):
                    calls = calls or begins_call(event)
                    if not calls:
                        self.flowed = index + 1
                        await self._send(event)
                        if isinstance(part, Text):
                            if joins:
                                await self._send(PartDelta(index, "\n\n"))
                            joins = False
                case ResponseEnd():
                    pass
                case _ if event.index < self.flowed:
                    await self._send(event)

    async def _send(self, event: Event) -> None:
        assert self._stream is not None
        assert not isinstance(event, ResponseStart | ResponseEnd)
        await self._stream.send(msgspec.structs.replace(event, index=event.index + self._count))

    def flowed_so_far(self) -> tuple[ResponsePart, ...]:
        """Return the parts of this answer that were already sent to the agent."""
        fold = core_of(self.exchange).fold
        return fold.response().content if fold is not None else ()

    async def end(self, draft: OpenDraft, parts: Iterable[ResponsePart], *, changed: bool = True) -> None:
        """Send `parts`, which are the rest of the answer, and then the stop reason and the usage of `draft`."""
        response = draft.response
        assert response is not None
        assert self._stream is not None
        draft.adopt()
        draft.keep("approve", counted=False) if changed else draft.use()
        rest = tuple(parts)
        for part in rest:
            await self._stream.send(part)
        await self._stream.send(
            ResponseEnd(
                stop_reason=settled_stop(response.stop_reason, calls=bool(calls_in(rest))),
                stop_sequence=response.stop_sequence,
                usage=response.usage,
                extra=response.extra,
            )
        )


def _carried_out(
    response: Response, decisions: Sequence[Decision]
) -> tuple[list[ResponsePart], list[ResponsePart], tuple[ToolResult | Opaque, ...]]:
    """Apply `decisions` to `response`. Return its parts, the parts for the agent, and the results of rejected calls.

    Raises:
        Refusal: the result of a rejected call cannot contain a text, because of the call's kind. So the model cannot
            get the rejection.
    """
    full: list[ResponsePart] = []
    kept: list[ResponsePart] = []
    results: list[ToolResult | Opaque] = []
    waiting = iter(decisions)
    for part in response.content:
        call = call_in(part)
        decision = next(waiting) if call is not None else Decision.approve()
        if call is not None and decision.kind == "modify":
            part = with_arguments(part, decision.arguments or "")
        full.append(part)
        if call is None or decision.kind != "reject":
            kept.append(part)
        elif (result := failed_result(part, decision.denial)) is not None:
            results.append(result)
        else:
            raise Refusal(403, f"{call.name}: {decision.denial}", should_retry=False)
    return full, kept, tuple(results)
