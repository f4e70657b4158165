"""What a program that blocks holds of rollouts and exchanges says what trio's do."""

import inspect
from typing import Any

import pytest

from triocept import Endpoint, Exchange, ResponseStream, Rollout
from triocept._util.checks import Misnamed
from triocept.testing import SyncEndpoint, SyncExchange, SyncRollout, SyncStream

NOT_HERE = {
    Rollout: {
        "serve",  # the handler is given when it is opened
        "open_agent",  # a loop in this thread would wait for the agent that it runs
        "open_child",
        "ask",
        "tools",
        "state",
        "state_key",
        "service_url",
        "on_hangup",
    },
    Endpoint: {"reachable", "wait_reachable", "root_url", "base_url"},
}
MORE: dict[type, set[str]] = {
    SyncRollout: {"check", "next", "anext", "async_client", "assert_called_with_tool", "assert_messages"},
    SyncEndpoint: {"enter", "host", "port"},  # the latter attributes of the other
    SyncStream: {"ended"},  # likewise
}


def public(kind: type) -> set[str]:
    named = {name for name, value in vars(kind).items() if not isinstance(value, Misnamed)}
    return {name for name in named if not name.startswith("_")}


@pytest.mark.parametrize(("kind", "twin"), [
    (Rollout, SyncRollout),
    (Exchange, SyncExchange),
    (ResponseStream, SyncStream),
    (Endpoint, SyncEndpoint),
])  # fmt: skip
def test_a_twin_has_what_the_other_has(kind: Any, twin: Any) -> None:
    assert public(twin) - MORE.get(twin, set()) == public(kind) - NOT_HERE.get(kind, set())


@pytest.mark.parametrize(("method", "twin"), [
    (Exchange.respond, SyncExchange.respond),
    (Exchange.respond_raw, SyncExchange.respond_raw),
    (Exchange.refuse, SyncExchange.refuse),
    (Exchange.annotate, SyncExchange.annotate),
    (ResponseStream.send, SyncStream.send),
    (ResponseStream.end, SyncStream.end),
    (Rollout.stop, SyncRollout.stop),
    (Rollout.score, SyncRollout.score),
    (Rollout.run_agent, SyncRollout.run_agent),
    (Rollout.base_url, SyncRollout.base_url),
    (Rollout.environ, SyncRollout.environ),
])  # fmt: skip
def test_a_twin_takes_what_the_other_takes(method: Any, twin: Any) -> None:
    assert inspect.signature(twin) == inspect.signature(method)
