"""A fake model that answers the model calls of the running program during a `with` block, for scripts and tests."""

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
    """Answer all model calls of this program, and of programs that this program starts, while the block runs.

    For example::

        with fake_model("hello") as model:
            assert my_application.greet() == "hello"
        assert model.calls[0].messages[-1].text == "say hello"

    Args:
        replies: answers in order, as for a `ScriptedModel`.
        handler: handler that answers, if there are no replies; see `SyncEndpoint.open_rollout`. If there are neither
            replies nor a handler, the body of the `with` block answers, by `next` or iteration.
        endpoint: endpoint of the model. None means a new endpoint, which is closed together with the model.
        environ: True to point the environment variables of this process to the model during the block. Clients that are
            created during the block (in any thread), and programs that are started during the block, then call the
            model without further settings. At the end of the block, the environment is restored exactly. If two blocks
            are nested, the variables point to the inner block's model; to call both models, use
            `model.client(dialect)`.
        must_be_used: True if an unused reply is an error at the end of the block.
        options: see `SyncEndpoint.open_rollout`.

    Raises:
        AssertionError: the body raised no exception, but replies are unused. This error is also raised if there are
            neither replies nor a handler, and the body has left a call unanswered. (If there is a handler, an
            unanswered call is refused.)
        Exception: exceptions of the handler, and other errors; see `SyncEndpoint.open_rollout`.
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
        raise ValueError("fake_model takes replies or a handler, not both")
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
