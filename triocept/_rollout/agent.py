"""Run an agent's process, and iterate over the agent's model calls. The iteration stops when the process ends."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import trio

from .._process.command import check_cwd, check_env, check_input
from .._process.environment import agent_environment
from .._process.output import AgentResult
from .._process.process import OUTPUT_LIMIT, TERMINATE_GRACE, AgentProcess, check_output, open_process
from .._trace.entries import AgentStart
from .._trace.rollout_events import AgentEnded
from .._util.checks import check_bool, check_keywords, check_type
from .._util.contexts import protected_context
from .._util.failures import keeping, keeping_each, raise_all
from ..errors import RolloutClosed
from .exchange import Exchange
from .hook_checks import check_hook
from .options import AgentOptions
from .user_home import user_home

if TYPE_CHECKING:
    from .rollout import Rollout
    from .rollout_state import RolloutState


CONFIG_DIRECTORIES = (
    *(
        "CLAUDE_CONFIG_DIR",
        "CODEX_HOME",
        "CONTINUE_GLOBAL_DIR",
        "COPILOT_HOME",
        "KIMI_CODE_HOME",
        "KIMI_SHARE_DIR",
    ),
    *("LLM_USER_PATH", "MSWEA_GLOBAL_CONFIG_DIR", "VIBE_HOME", "XDG_CONFIG_HOME"),
)
"""Environment variables that name an agent's configuration directory."""


@final
class Agent:
    """A running agent process, and an iterator over its model calls. Only `rollout.open_agent` creates instances.

    To get the model calls of the agent's rollout, iterate over the `Agent`: `async for exchange in agent`. The
    iteration ends when the process or the rollout has ended.
    """

    def __init__(self, core: RolloutState, process: AgentProcess) -> None:
        self._core = core
        self._process = process
        self._ended = False
        self._waits: set[trio.CancelScope] = set()
        self._watch_scope = trio.CancelScope(shield=True)

    def __repr__(self) -> str:
        return f"<Agent of rollout {self.rollout.id}: {self._process!r}>"

    @property
    def rollout(self) -> Rollout:
        """The rollout to which the agent sends its model calls."""
        return self._core.public

    @property
    def pid(self) -> int:
        """Process id of the agent, and also the id of its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return code of the process. If a signal has ended the process, this is the negative number of the signal.

        None while the process runs.
        """
        return self._process.returncode

    @property
    def result(self) -> AgentResult:
        """Result of the agent's process. The result is available when the `async with` block of `open_agent` has ended.

        Raises:
            RuntimeError: the block of `open_agent` has not ended yet.
        """
        return self._process.result

    async def wait(self) -> int:
        """Wait until the agent's process has ended, and return its return code.

        Cancellation: immediate; the process continues until the block of `open_agent` ends.
        """
        return await self._process.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Exchange:
        """Return the agent's next model call.

        Raise RuntimeError if the rollout has a handler, because the handler gets every call. Cancellation: no call is
        taken from the rollout.
        """
        self._core.check_untaken()
        if not self._ended:
            with trio.CancelScope() as scope:
                self._waits.add(scope)
                try:
                    exchange = await self._core.arrivals.next()
                finally:
                    self._waits.discard(scope)
                if exchange is not None:
                    assert exchange.facade is not None
                    return exchange.facade
        await trio.lowlevel.checkpoint()
        raise StopAsyncIteration

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        with self._watch_scope:
            await self._process.wait()
            self._ended = True
            for scope in self._waits:
                scope.cancel()


def check_agent_options(
    core: RolloutState, function: str, argv: Sequence[str | os.PathLike[str]], options: AgentOptions
) -> tuple[Sequence[str | os.PathLike[str]], AgentOptions]:
    """Check the options of an agent, and return its command and options.

    If the option `keep_home` is True, the returned command and `env` are changed, so that the agent uses the user's own
    configuration. `function` is the name of the caller in error texts.

    Raise TypeError or ValueError if an option is invalid.
    """
    check_keywords(function, options, AgentOptions.__annotations__)
    env = options.get("env")
    if env is not None:
        check_type("env", env, Mapping, "a mapping of names to values")
        check_env({name: "" if value is None else value for name, value in env.items()})
    check_cwd(options.get("cwd"))
    check_input(options.get("input"))
    check_output(
        options.get("output", "capture"),
        options.get("output_limit", OUTPUT_LIMIT),
        options.get("stdout_file"),
        options.get("stderr_file"),
        options.get("terminate_grace", TERMINATE_GRACE),
        options.get("input"),
    )
    check_bool("keep_home", options.get("keep_home", False))
    if core.gate.hook is not None:
        check_hook(core.gate.hook, argv, env or {}, options.get("cwd"))
    if options.get("keep_home"):
        argv, own = user_home(argv, env, options.get("cwd"))
        options = {**options, "env": own}
    return argv, options


@protected_context
async def open_agent(
    core: RolloutState, argv: Sequence[str | os.PathLike[str]], options: AgentOptions
) -> AsyncIterator[Agent]:
    """See `Rollout.open_agent`."""
    if core.ending is not None:
        raise RolloutClosed(f"rollout {core.id} has ended, so no agent can be started in it")
    cwd = os.path.abspath(options.get("cwd") or os.curdir)  # noqa: ASYNC240 - no I/O
    # A shell sets PWD, too. opencode uses this variable in place of its real working directory.
    here = core.public.environ() | {"PWD": os.fspath(cwd)}
    if core.gate.hook is not None:
        here |= core.gate.hook.variables
    environment = agent_environment(os.environ, here, options.get("env"))
    start = AgentStart(
        rollout=core.id,
        run=core.trace.run,
        argv=tuple([os.fspath(each) for each in argv]),
        cwd=here["PWD"],
        home=environment.get("HOME"),
        config=next((environment[name] for name in CONFIG_DIRECTORIES if environment.get(name)), None),
        started_at=time.time(),
    )
    start = await core.records.record_entry(start)
    of_process: dict[str, Any] = {**options, "env": environment}
    of_process.pop("keep_home", None)
    process: AgentProcess | None = None
    try:
        async with open_process(argv, watcher=core.watcher, **of_process) as process:
            agent = Agent(core, process)
            errors: list[BaseException] = []  # raised outside the nursery, which would wrap them
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(agent._watch)
                    with keeping(errors):
                        yield agent
                    agent._watch_scope.cancel()
            raise_all(errors)
    finally:
        if (events := core.records.events) is not None:
            events.send(
                AgentEnded, agent=start, returncode=process.returncode if process is not None else None
            )
