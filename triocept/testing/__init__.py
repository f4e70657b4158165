"""A fake model for tests and scripts that do not run trio, and agents in memory for tests that run trio.

The fake model can be used in sync code, in asyncio code, and under any test runner::

    with triocept.testing.fake_model("hello") as model:
        assert my_application.greet() == "hello"

* `_model`: `fake_model`. `_environment`: sets environment variables of this process, so that clients call the model.
* `_endpoint`: `serve`, which runs an endpoint in its own thread. `_rollout`, `_exchange`: sync counterparts of
  `Rollout` and `Exchange`.
* `_handlers`: adapters for handlers. A handler that is a plain function runs in its own thread, and may block.
* `_ending`: closes a rollout at the end of its `with` block, and collects the errors. `_leaving`: chooses the error
  that the block raises, and adds a hint if asyncio code of a handler ran under trio.
* `_loop`: the thread that runs trio's loop. `_job`: a call into this loop from another thread or event loop. `_held`:
  keeps an async context open in the loop while a block in another thread runs. `_watch`: warns about functions that
  have blocked the loop.
* `_blocks`: the type of this package's context managers, which raise a clear error if `with` was forgotten.
* `_assert_tool`, `_assert_messages`: assertions about the application's calls. `_wildcards`: placeholders for values in
  these assertions.
* `_plugin`: implementation of the pytest plugin `triocept_pytest`, a module beside the package.
* `_memory`: agents, rollouts and exchanges without a socket, under trio's mock clock. `_lazy`: imports parts of this
  package on first use.
"""

from typing import TYPE_CHECKING

from .._recording.cassettes.cassette import (
    Cassette,
    CassetteOptions,
    RecordedCall,
    RecordMode,
    open_cassette,
    use_cassette,
)
from .._recording.cassettes.hooks import forward_to, normalize
from ._assert_messages import ExpectedMessage
from ._endpoint import SyncEndpoint, serve
from ._exchange import AnyHandler, SyncExchange, SyncStream
from ._model import fake_model
from ._plugin.models import ModelFactory
from ._rollout import SyncRollout
from ._wildcards import containing

if TYPE_CHECKING:
    from ._memory.agent import MemoryAgent, open_memory_agent
    from ._memory.call import MemoryCall, Piece
    from ._memory.exchange import open_exchange
    from ._memory.rollout import open_rollout
else:
    from ._lazy import __getattr__ as __getattr__

__all__ = [
    "AnyHandler",
    "Cassette",
    "CassetteOptions",
    "ExpectedMessage",
    "MemoryAgent",
    "MemoryCall",
    "ModelFactory",
    "Piece",
    "RecordMode",
    "RecordedCall",
    "SyncEndpoint",
    "SyncExchange",
    "SyncRollout",
    "SyncStream",
    "containing",
    "fake_model",
    "forward_to",
    "normalize",
    "open_cassette",
    "open_exchange",
    "open_memory_agent",
    "open_rollout",
    "serve",
    "use_cassette",
]
