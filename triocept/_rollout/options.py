"""Types of the keyword arguments that open a rollout or run an agent, shared by endpoints, pools and rollouts."""

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
from .decision import Policy
from .embedding import Embed
from .gate import Gate
from .moderation import Moderate
from .services import Said
from .tools import ToolLike

if TYPE_CHECKING:
    from .rollout import Rollout as _Rollout
else:  # for `get_type_hints`: the module `rollout` imports this one
    _Rollout = ForwardRef("Rollout", module=f"{__package__}.rollout")

OnHangup: TypeAlias = Literal["cancel", "finish"]
"""Effect of an agent's disconnect on its exchange: with `cancel`, the handler is cancelled and the exchange is
abandoned; with `finish`, the handler may still answer."""

OnFault: TypeAlias = Literal["cancel", "stay"]
"""Effect of an exception of a handler or a recorder on the rollout: with `cancel`, the body of the rollout's block is
cancelled; with `stay`, the exception is raised only when the block ends."""


UserSimulator: TypeAlias = Callable[[Sequence[Message], _Rollout], Awaitable[Said]]
"""A function `async (messages, rollout) -> next message of the user`. `messages` is the transcript so far, oldest
first. If the function returns None, the conversation ends."""

StopCondition: TypeAlias = Callable[[Sequence[Message], _Rollout], Awaitable[str | None]]
"""A function `async (messages, rollout) -> reason why the run is done`. The function returns None if the run is not
done."""


class RolloutOptions(TypedDict, total=False):
    """The keyword arguments of `open_rollout` and `open_child`.

    If a key is omitted or None, the default in the key's description applies. For a child rollout, the defaults of
    `model`, `recorder`, `redact`, `on_hangup`, `on_retry`, `record_increments`, `record_wire`, `embed` and `moderate`
    are the parent's values; the defaults of all other keys are the same.
    """

    id: str | None
    """Id of the rollout, which is part of its URLs. None means a generated id."""
    model: str | None
    """The name that `/v1/models` lists. None means `triocept`."""
    on_hangup: OnHangup | None
    """Effect of an agent's disconnect on its exchange. None means `cancel`."""
    on_retry: OnRetry | None
    """Treatment of a call that the agent sends again, see `OnRetry`. None means `join`."""
    on_fault: OnFault | None
    """Effect of a fault of the handler on the rollout. None means `cancel`."""
    concurrency: int | None
    """Maximum number of exchanges that are handled at the same time. None means no limit."""
    recorder: Recorder | None
    """The recorder that receives the turns. None means the recorder of the endpoint or the pool."""
    tools: Iterable[ToolLike] | None
    """Functions that the agent may call. None means no functions."""
    user: UserSimulator | None
    """A simulated user. None means no user: requests for the next message of the user get 404."""
    stop: StopCondition | None
    """A function that returns the reason if the run is done. If None, only `rollout.stop` ends the run."""
    state: Any
    """Initial value of the state that tools in this and other programs share. None means no state, unless `state_type`
    is set."""
    state_type: Any
    """Type of every value of the state. None means the type of the initial value."""
    embed: Embed | None
    """A function that returns vectors for texts. None means the endpoint's function. If the endpoint has no function,
    vectors are computed from the words."""
    moderate: Moderate | None
    """A function that returns moderation results for texts. None means the endpoint's function. If the endpoint has no
    function, no text is flagged."""
    gate: Gate | Policy | None
    """Gate or policy that decides about each tool call before the tool runs. The agent's own hook requests the
    decision. None means that only decisions of `approve` apply."""
    redact: Redaction | None
    """Redaction of the texts of all records. Keys are always removed; if None, only keys are removed."""
    metadata: Mapping[str, Json] | None
    """JSON values, such as a task, a seed or a policy, for the trace and its file. None means no values."""
    record_increments: bool | None
    """True if turns contain the pieces of a streamed answer, with their times. None means the endpoint's setting."""
    record_wire: bool | None
    """True if turns contain their HTTP traffic. None means the endpoint's setting."""
    limits: Limits | None
    """Maximum turns, tokens, cost and time of the rollout. None means no limit. A child's calls always count against
    the limits of its parents, too."""


class AgentOptions(TypedDict, total=False):
    """The keyword arguments of `run_agent` and `open_agent`.

    If a key is omitted, the default in the key's description applies.
    """

    env: Mapping[str, str | None] | None
    """Variables that are added to the agent's environment, or replace its variables; None removes a variable. If None,
    no variable is added."""
    cwd: str | os.PathLike[str] | None
    """The agent's working directory. None means the working directory of this program."""
    input: bytes | str | None
    """Bytes for the agent's stdin; a str is encoded as UTF-8. If None, stdin is empty."""
    output: OutputMode
    """Treatment of the agent's output. `capture` (default): the output is kept. `echo`: the output is kept and shown.
    `inherit`: the agent writes to this program's output. `terminal`: the agent gets this program's terminal."""
    output_limit: int
    """Maximum bytes of each stream that are kept in memory. Default: 1 MiB."""
    stdout_file: OutputFile | None
    """A path, or a binary file, that receives all of stdout. None means no file."""
    stderr_file: OutputFile | None
    """A path, or a binary file, that receives all of stderr. None means no file."""
    terminate_grace: float
    """Seconds between SIGTERM and SIGKILL when the agent is ended. Default: 5."""
    keep_home: bool
    """True to let the agent use the user's own configuration. Default: False, which means the configuration directory
    in `env`, such as that of `agents.claude_code`."""
