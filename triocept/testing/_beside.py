"""Embeddings and moderations of programs that are not the loop's: a function that is not async runs in a thread of its
own, as a handler does, and may block."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any, TypeVar, cast

import trio

from .._endpoint import EndpointOptions
from .._rollout.embedding import check_embed
from .._rollout.functions import awaited
from .._rollout.moderation import check_moderate
from .._rollout.options import RolloutOptions
from ._exchange import is_async

__all__ = ["with_threads"]

O = TypeVar("O", EndpointOptions, RolloutOptions)  # noqa: E741


def with_threads(options: O) -> O:
    """The options, with `embed` and `moderate` as the loop runs them.

    Raises:
        TypeError: they are none.
    """
    changed: dict[str, Any] = {**options}
    for name, check in (("embed", check_embed), ("moderate", check_moderate)):
        function = changed.get(name)
        if function is not None:
            check(function)
            changed[name] = function if is_async(function) else _in_thread(function)
    return cast(O, changed)


def _in_thread(function: Callable[[Sequence[str]], Any]) -> Callable[[Sequence[str]], Any]:
    limiter = trio.CapacityLimiter(math.inf)

    async def in_thread(texts: Sequence[str]) -> Any:
        given = await trio.to_thread.run_sync(function, texts, abandon_on_cancel=True, limiter=limiter)
        return await awaited(given)

    return update_wrapper(in_thread, function) if inspect.isroutine(function) else in_thread
