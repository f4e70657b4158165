"""The model for tests and scripts that are not trio's: sync code, asyncio, any test runner. And agents in memory, for
tests that are.

    with triocept.testing.fake_model("hello") as model:
        assert my_application.greet() == "hello"

* `_model`: `fake_model`. `_environment`: the process's, pointed at it.
* `_endpoint`: `serve`: an endpoint in a thread of its own. `_rollout`, `_exchange`, `_stream`: what its program holds.
* `_handlers`: whatever answers: what may block does so in a thread of its own.
* `_ending`: what is raised at the end. `_leaving`: that of several errors, and
  that a handler runs under trio.
* `_loop`: the thread, in which trio runs. `_job`: what another thread, or another event loop, asks of it. `_held`:
  contexts that are open in it. `_watch`: who blocks it, and for how long.
* `_blocks`: the contexts of all this, and what they say to who forgets the `with`.
* `_assert_tool`, `_assert_messages`: what tests say of the application's calls. `_wildcards`: what stands for a value.
* `_plugin`: what pytest's plugin does, `triocept_pytest`, which stands beside the package.
* `_memory`: agents, rollouts and exchanges without a socket, under trio's mock clock. `_lazy`: loads it.
"""

from typing import TYPE_CHECKING

from .._recording.cassettes.cassette import Cassette, RecordMode
from .._recording.cassettes.forwarding import forward_to
from .._recording.cassettes.hooks import normalize
from .._recording.cassettes.opening import CassetteOptions, open_cassette, use_cassette
from .._recording.cassettes.view import RecordedCall
from ._assert_messages import ExpectedMessage
from ._endpoint import SyncEndpoint, serve
from ._exchange import AnyHandler, SyncExchange
from ._model import fake_model
from ._plugin.models import ModelFactory
from ._rollout import SyncRollout
from ._stream import SyncStream
from ._wildcards import containing

if TYPE_CHECKING:
    from ._memory.agent import MemoryAgent, open_memory_agent
    from ._memory.call import MemoryCall
    from ._memory.exchange import open_exchange
    from ._memory.rollout import open_rollout
    from ._memory.transport import Piece
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
