"""What a rollout and its agents may be given, typed once: an endpoint, a pool and a parent open rollouts alike."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ForwardRef, Literal, TypeAlias, TypedDict

from .._canonical.content import Json, Message
from .._process.process import OutputFile, OutputMode
from .._trace.recorder import Recorder
from .._trace.redaction import Redaction
from .budget import Limits
from .calls import OnRetry
from .embedding import Embed
from .moderation import Moderate
from .services import Said
from .tools import ToolLike

if TYPE_CHECKING:
    from .rollout import Rollout as _Rollout
else:  # so that `get_type_hints` finds it, which that module is above
    _Rollout = ForwardRef("Rollout", module=f"{__package__}.rollout")

OnHangup: TypeAlias = Literal["cancel", "finish"]
"""What an agent's hang-up does to the exchange that it waits for."""

OnFault: TypeAlias = Literal["cancel", "stay"]
"""What a fault of the program does to its rollout: of its handler, of its recorder."""


UserSimulator: TypeAlias = Callable[[Sequence[Message], _Rollout], Awaitable[Said]]
"""`async (messages, rollout) -> what the user says next`: the transcript so far, oldest first; nothing ends it."""

StopCondition: TypeAlias = Callable[[Sequence[Message], _Rollout], Awaitable[str | None]]
"""`async (messages, rollout) -> why it is done`; None: it is not."""


class RolloutOptions(TypedDict, total=False):
    """The keywords of `open_rollout` and `open_child`, as `Unpack[RolloutOptions]` types them.

    What is left out or None is as said here. Of a child, `model`, `recorder`, `redact`, `on_hangup`, `on_retry`,
    `record_increments`, `record_wire`, `embed` and `moderate` are then its parent's; all else is as of any rollout.
    """

    id: str | None
    """It goes into its URLs. None makes one."""
    model: str | None
    """The name that `/v1/models` lists. None: `triocept`."""
    on_hangup: OnHangup | None
    """What an agent's hang-up does to its exchange. None: `cancel`."""
    on_retry: OnRetry | None
    """What becomes of an agent's re-send of a call. None: `join`."""
    on_fault: OnFault | None
    """What a fault of the handler does to the rollout. None: `cancel`."""
    concurrency: int | None
    """How many exchanges the handler gets at once. None: as many as come."""
    recorder: Recorder | None
    """Where the turns go. None: where the endpoint's go, or the pool's."""
    tools: Iterable[ToolLike] | None
    """Functions that the agent may call. None: it has none."""
    user: UserSimulator | None
    """A simulated user. None: there is none, and who asks for one gets 404."""
    stop: StopCondition | None
    """Says whether the run is done. None: only `rollout.stop` does."""
    state: Any
    """The first value of what is shared with tools elsewhere. None, and no `state_type`: there is no state."""
    state_type: Any
    """What every value of the state has to be. None: what the first one is."""
    embed: Embed | None
    """Gives texts their vectors, for embeddings. None: the endpoint's, or they are made of the words."""
    moderate: Moderate | None
    """Says what is found in texts. None: the endpoint's, or nothing is."""
    redact: Redaction | None
    """What is taken out of all that is recorded, beside keys. None: nothing."""
    metadata: Mapping[str, Json] | None
    """What is known of it: a task, a seed, a policy. It goes into its trace, and its file. None: nothing."""
    record_increments: bool | None
    """Whether turns keep in which pieces their answers came, and when. None: as the endpoint says."""
    record_wire: bool | None
    """Whether turns keep how they went over the wire. None: as the endpoint says."""
    limits: Limits | None
    """What the rollout may spend. None: any amount; a child's calls count against its parents' limits all the same."""


class AgentOptions(TypedDict, total=False):
    """The keywords of `run_agent` and `open_agent`, as `Unpack[AgentOptions]` types them.

    What is left out is as said here.
    """

    env: Mapping[str, str | None] | None
    """Added to the environment, and wins; None as a value takes a variable out. None: nothing is added."""
    cwd: str | os.PathLike[str] | None
    """The working directory. None: the program's."""
    input: bytes | str | None
    """What the agent reads on stdin, a str as UTF-8. None: nothing."""
    output: OutputMode
    """Whether its output is kept (`capture`, the default), shown as well (`echo`), or its own affair (`inherit`)."""
    output_limit: int
    """Bytes of each stream that are kept in memory: 1 MiB, unless said otherwise."""
    stdout_file: OutputFile | None
    """A path, or a binary file, that gets all of stdout. None: it goes to no file."""
    stderr_file: OutputFile | None
    """Likewise, of stderr."""
    terminate_grace: float
    """Seconds that the agent has after SIGTERM: 5, unless said otherwise."""
