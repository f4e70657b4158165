"""`route` chooses one of several handlers by the request; `fallback` tries several handlers in order.

Rules:

1. Each exchange is answered by one handler. `fallback` calls the next handler only if the previous handler failed
   before a part of its answer was sent to the agent.
2. If no handler matches the requested model, the request is refused with 404, as a provider would refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from .._rollout.exchange import Exchange
from .._rollout.handler import Handler, awaiting, check_handler
from .._util.checks import described
from ..errors import Refusal, UpstreamError

Choice: TypeAlias = Mapping[str, Handler] | Callable[[Exchange], Handler]
"""Handlers by model name, or a function that returns the handler for an exchange.

Model names may contain the wildcards `*` and `?`. A name that equals the requested model has priority; otherwise the
first matching pattern is used. The function may raise a `Refusal`."""


def route(choice: Choice) -> Handler:
    """Return a handler that chooses a handler for each exchange: `route({"claude-*": anthropic, "*": local})`.

    Args:
        choice: see `Choice`.

    Raises:
        TypeError: a value of `choice` is not a handler.
        ValueError: `choice` is an empty mapping.
        Refusal: no handler matches the model that the agent requested. This error, with the status 404, is raised while
            an exchange is answered.
    """
    if callable(choice):
        choose = choice
    else:
        named: object = choice
        if not isinstance(named, Mapping):
            raise TypeError(
                f'route takes a mapping of models to handlers, such as {{"*": handler}}, or a function, not '
                f"{described(named)}"
            )
        if not choice:
            raise ValueError("route got an empty mapping, but needs at least one handler")
        for handler in choice.values():
            check_handler(handler)
        handlers = {name: awaiting(one) for name, one in choice.items()}

        def choose(exchange: Exchange) -> Handler:
            model = exchange.request.model
            if model in handlers:
                return handlers[model]
            for pattern, handler in handlers.items():
                if fnmatchcase(model, pattern):
                    return handler
            raise Refusal(
                404, f"unknown model {model!r}; the models are {', '.join(handlers)}", should_retry=False
            )

    async def routed(exchange: Exchange) -> None:
        await awaiting(choose(exchange))(exchange)

    return routed


def fallback(handlers: Iterable[Handler]) -> Handler:
    """Return a handler that tries several handlers in order, until one of them answers.

    The next handler is called if the previous handler raised an `UpstreamError` and the exchange has no outcome yet. So
    if the previous handler's stream broke in the middle, no other handler is called. The note `failed` of the turn
    lists the handlers' failures.

    Args:
        handlers: at least one handler, in the order of the tries.

    Raises:
        UpstreamError: the error of the last handler, if all handlers fail while an exchange is answered.
        ValueError: `handlers` is empty.
        TypeError: an item is not a handler.
    """
    given: object = handlers
    if callable(given) or not isinstance(given, Iterable):
        hint = f"; write fallback([{getattr(given, '__name__', 'handler')}])" if callable(given) else ""
        raise TypeError(f"fallback takes a list of handlers, not {described(given)}{hint}")
    each = tuple(handlers)
    for one in each:
        check_handler(one)
    each = tuple(awaiting(one) for one in each)
    if not each:
        raise ValueError("fallback got an empty list, but needs at least one handler")

    async def tried(exchange: Exchange) -> None:
        failed: list[str] = []
        for handler in each[:-1]:
            try:
                await handler(exchange)
            except UpstreamError as exc:
                if exchange.settled:
                    raise
                failed.append(str(exc))
                exchange.annotate(failed=list(failed))
            else:
                return
        await each[-1](exchange)

    return tried
