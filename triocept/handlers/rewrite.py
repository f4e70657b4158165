"""`rewrite`: a handler that changes the requests that another handler gets, or the answers that the agent gets.

Rules:

1. The functions `request`, `response` and `event` should be pure: each returns a new value and changes nothing else.
   The turn contains the agent's original request, and `turn.drafts` contains the handler's original answer.
2. If `response` is given, the agent gets no part of the answer until the answer is complete. If `event` is given, each
   event of the answer is passed on when it arrives. If neither is given, the answer is passed on unchanged.
3. A function that raises, or that returns a value of a wrong type, has the same effect as an exception of a handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._canonical.events import Event, ResponseEnd
from .._canonical.given import given_event, given_response
from .._canonical.given_request import given_request
from .._canonical.request import Request
from .._canonical.response import Response
from .._rollout.draft import OpenDraft, open_draft, pass_on
from .._rollout.exchange import Exchange
from .._rollout.functions import check_function
from .._rollout.handler import Handler, awaiting, check_handler
from .._util.checks import described, named, with_known_keywords


@with_known_keywords
def rewrite(
    handler: Handler,
    *,
    request: Callable[[Request], Request] | None = None,
    response: Callable[[Response], Response] | None = None,
    event: Callable[[Event], Event | Iterable[Event] | None] | None = None,
) -> Handler:
    """Return a handler that changes the requests or answers of `handler`: `rewrite(model, request=without_images)`.

    Args:
        handler: the handler that answers.
        request: called with the agent's request; returns the request that the handler gets.
        response: called with the handler's whole answer; returns the answer that the agent gets.
        event: called with each event of the handler's answer; returns the event or events that the agent gets, or None
            for no event.

    Raises:
        TypeError: an argument is not a handler or a function; no function is given; or both `response` and `event` are
            given. This error is also raised while an exchange is answered, if a function returned a value of a wrong
            type.
        DialectError: `event` returned events in an invalid order while an exchange was answered.
    """
    check_handler(handler)
    for name, function in (("request", request), ("response", response), ("event", event)):
        if function is not None:
            check_function(f"rewrite({name}=)", function, f"a function of one {name}")
    if request is None and response is None and event is None:
        raise TypeError(
            "rewrite needs request=, response= or event=: a function that returns the changed value"
        )
    if response is not None and event is not None:
        raise TypeError("rewrite takes response= (the whole answer) or event= (event by event), not both")
    inner = awaiting(handler)

    async def rewritten(exchange: Exchange) -> None:
        asked = None
        if request is not None:
            asked = given_request(f"the result of {named(request)}", request(exchange.request))
        async with open_draft(exchange, inner, asked) as draft:
            if response is None:
                await pass_on(
                    exchange, draft, event and _checked(event), why="rewrite", keep=request is not None
                )
                return
            whole = await draft.read()
            draft.adopt()
            if whole is None:
                await draft.pass_raw()
                return
            changed: object = response(whole)
            if not isinstance(changed, Response):
                raise TypeError(f"{named(response)} returned {described(changed)}; rewrite needs a Response")
            answer = given_response(changed)
            if changed is not whole or request is not None:
                draft.keep("rewrite", counted=False)
            else:
                draft.use()
            await exchange.respond(answer)

    return rewritten


def _checked(
    event: Callable[[Event], Event | Iterable[Event] | None],
) -> Callable[[OpenDraft, Event], Iterable[Event]]:
    def change(draft: OpenDraft, one: Event) -> Iterable[Event]:
        given: object = event(one)
        if given is None:
            if isinstance(one, ResponseEnd):
                raise TypeError(
                    f"{named(event)} returned None for the ResponseEnd, but every answer needs a ResponseEnd"
                )
            return ()
        if given is one:
            return (one,)
        several = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        return tuple([given_event(each) for each in several])

    return change
