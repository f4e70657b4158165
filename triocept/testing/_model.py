"""Be the model of this very program, for as long as a block runs: for scripts, and tests of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Unpack

from .._rollout.options import RolloutOptions
from .._util.checks import check_bool, check_keywords
from ..handlers.script import Item, ScriptedModel
from ._blocks import block
from ._endpoint import SyncEndpoint, serve
from ._environment import environment, pointed
from ._exchange import AnyHandler
from ._rollout import SyncRollout, target_of


@block("model")
def fake_model(
    *replies: Item,
    handler: AnyHandler | None = None,
    endpoint: SyncEndpoint | None = None,
    environ: bool = True,
    must_be_used: bool = True,
    **options: Unpack[RolloutOptions],
) -> Iterator[SyncRollout]:
    """Answer all model calls of this program, and of what it starts, for as long as the block runs::

        with fake_model("hello") as model:
            assert my_application.greet() == "hello"
        assert model.calls[0].messages[-1].text == "say hello"

    Args:
        replies: what it says, in order, as `ScriptedModel` takes them.
        handler: answers in their place; as of `SyncEndpoint.open_rollout`. Without either the body answers, by `next`
            or iteration.
        endpoint: where it runs; None: an endpoint of its own, which ends with it.
        environ: whether the environment of this process leads to it meanwhile: clients that are made in the block, and
            programs that are started in it, call it without being told. It is put back exactly. Of two such blocks the
            inner one has the environment: where both models are to be called, take `model.client(dialect)`. The
            environment is that of the whole process, its other threads too.
        must_be_used: whether a reply that is left at the end is an error.
        options: as of `SyncEndpoint.open_rollout`.

    Raises:
        AssertionError: at the end of a body that has not failed: replies are left, or a call was never answered.
        Exception: what the handler raised; how, and all else, as of `SyncEndpoint.open_rollout`.
    """
    __tracebackhide__ = True
    check_keywords(
        "fake_model",
        options,
        ("handler", "endpoint", "environ", "must_be_used", *RolloutOptions.__annotations__),
    )
    check_bool("environ", environ)
    check_bool("must_be_used", must_be_used)
    if replies and handler is not None:
        raise ValueError("fake_model is given replies, or a handler which makes them: not both")
    script = ScriptedModel(replies) if replies else None
    with ExitStack() as stack:
        if endpoint is None:
            endpoint = stack.enter_context(serve())
        rollout = endpoint.open_rollout(script or handler, must_be_used=must_be_used, **options)
        model = stack.enter_context(rollout)
        target = target_of(model)
        target.open()
        if environ:
            stack.enter_context(pointed(environment(model.environ())))
            target.lead()
        yield model
