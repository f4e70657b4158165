"""A rollout without an endpoint, for tests with trio's mock clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, Unpack

from ..._rollout import life
from ..._rollout.addresses import Reach
from ..._rollout.event_loop import check_loop
from ..._rollout.handler import Handler
from ..._rollout.options import RolloutOptions
from ..._rollout.registry import Registry
from ..._rollout.rollout import Rollout, check_opening, with_facade
from ..._rollout.rollout_state import RolloutState
from ..._util.limits import EndpointLimits
from ...dialects import Dialect, known_dialects
from ...errors import TunnelError


def open_rollout(
    handler: Handler | None = None, *, dialects: Iterable[Dialect] = (), **options: Unpack[RolloutOptions]
) -> AbstractAsyncContextManager[Rollout]:
    """Open a rollout without an endpoint. The rollout has no port, and takes all times from trio's clock.

    `open_memory_agent(rollout)` opens an agent that calls the rollout; `rollout.ask` calls the rollout without an
    agent.

    Args:
        handler: the handler that answers every exchange. If None, the body answers, with `async for` or
            `rollout.serve`.
        dialects: additional dialects; see `serve_endpoint`.
        options: see `Endpoint.open_rollout`.

    Closing and errors: see `Endpoint.open_rollout`. Methods that need an address (`base_url`, `client`, `run_agent`, …)
    raise RuntimeError.
    """
    check_loop("triocept.testing.open_rollout")
    handler, concurrency = check_opening("open_rollout", handler, options)
    no_watcher: Any = None  # starts no agent that could outlive the program
    core = RolloutState(_Nowhere(known_dialects(dialects)), Registry(), no_watcher, options)
    return life.open_rollout(with_facade(core), handler, concurrency)


class _Nowhere:
    """Placeholder for the addresses of a rollout without an endpoint. Each access to an address raises an error."""

    def __init__(self, dialects: Mapping[str, Dialect]) -> None:
        self.limits = EndpointLimits()
        self.dialects = dialects

    @property
    def public_url(self) -> str:
        raise TunnelError(_NO_ADDRESS)

    def root_url(self, rollout_id: str, reach: Reach) -> NoReturn:
        raise RuntimeError(_NO_ADDRESS)

    def base_url(self, rollout_id: str, dialect: str, reach: Reach) -> NoReturn:
        raise RuntimeError(_NO_ADDRESS)


_NO_ADDRESS = (
    "this rollout is in memory, and has no address: call it with triocept.testing.open_memory_agent(rollout). A client "
    "that connects needs a rollout of serve_endpoint, or of triocept.testing.serve"
)
