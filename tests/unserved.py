"""A rollout that no endpoint serves, so that a mock clock may run: it is asked by `rollout.ask`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import trio

from triocept import EndpointLimits, Handler, Limits, Refusal, Rollout
from triocept._rollout.life import open_rollout
from triocept._rollout.registry import Registry
from triocept._rollout.rollout import with_facade
from triocept._rollout.rollout_state import RolloutState
from triocept.dialects import DIALECTS


@asynccontextmanager
async def opened(
    handler: Handler | None = None, limits: Limits | None = None, *, within: float = 30, **options: Any
) -> AsyncIterator[Rollout]:
    """A rollout that no agent can reach, for so many seconds at the most; the options are those of `Rollout`."""
    endpoint = cast(Any, SimpleNamespace(limits=EndpointLimits(), dialects=DIALECTS))
    core = with_facade(
        RolloutState(endpoint, Registry(), cast(Any, None), cast(Any, {"limits": limits, **options}))
    )
    with trio.fail_after(within):
        async with open_rollout(core, handler, None) as rollout:
            yield rollout


async def outcome(rollout: Rollout, text: str) -> str:
    """What becomes of a call: "answered", or the status of its refusal."""
    try:
        await rollout.ask(text)
    except Refusal as exc:
        return str(exc.status)
    return "answered"


async def outcomes(rollout: Rollout, count: int) -> list[str]:
    """What becomes of so many calls, one after the other."""
    return [await outcome(rollout, f"call {number}") for number in range(count)]
