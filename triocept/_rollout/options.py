"""What a rollout and its agents may be given, typed once: an endpoint, a pool and a parent open rollouts alike."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from .._canonical.content import Message
from .._process.process import OutputFile, OutputMode
from .._trace.recorder import Recorder
from .budget import Limits
from .calls import OnRetry
from .services import Said
from .tools import ToolLike

if TYPE_CHECKING:
    from .rollout import Rollout

__all__ = ["AgentOptions", "OnHangup", "RolloutOptions", "StopCondition", "UserSimulator"]

OnHangup: TypeAlias = Literal["cancel", "finish"]
"""What an agent's hang-up does to the exchange that it waits for."""


UserSimulator: TypeAlias = Callable[[Sequence[Message], "Rollout"], Awaitable[Said]]
"""`async (messages, rollout) -> what the user says next`: the transcript so far, oldest first; nothing ends it."""

StopCondition: TypeAlias = Callable[[Sequence[Message], "Rollout"], Awaitable[str | None]]
"""`async (messages, rollout) -> why it is done`; None: it is not."""


class RolloutOptions(TypedDict, total=False):
    """The keywords of `open_rollout` and `open_child`, as `Unpack[RolloutOptions]` types them.

    What is left out or None is as `Endpoint.open_rollout` says; of a child, as its parent has it.
    """

    id: str | None
    model: str | None
    on_hangup: OnHangup | None
    on_retry: OnRetry | None
    concurrency: int | None
    recorder: Recorder | None
    tools: Iterable[ToolLike] | None
    user: UserSimulator | None
    stop: StopCondition | None
    state: Any
    state_type: Any
    limits: Limits | None


class AgentOptions(TypedDict, total=False):
    """The keywords of `run_agent` and `open_agent`, as `Unpack[AgentOptions]` types them.

    What is left out is as `Rollout.run_agent` says.
    """

    env: Mapping[str, str | None] | None
    cwd: str | os.PathLike[str] | None
    input: bytes | str | None
    output: OutputMode
    output_limit: int
    stdout_file: OutputFile | None
    stderr_file: OutputFile | None
    terminate_grace: float
