"""What a person sees of a run: a line for each exchange, on standard error, between the agent's own output."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import IO, cast

from rich.console import Console
from rich.text import Text as RichText

from .._endpoint import Endpoint
from .._rollout.output import AgentResult
from .._rollout.rollout import Rollout
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..agents import AGENTS
from .screen import Screen, visible

__all__ = ["Show"]

FILE_WIDTH = 200
"""Columns, where nobody's screen says how many there are."""
_STYLES = {"answered": "green", "refused": "yellow", "failed": "bold red", "abandoned": "magenta"}


class Show:
    """A recorder that prints."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(file=cast(IO[str], Screen()), quiet=quiet, highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = FILE_WIDTH

    def begin(self, endpoint: Endpoint, rollout: Rollout, command: Sequence[str]) -> None:
        self._print("▸", "cyan", f"endpoint {endpoint.url}, rollout {rollout.id}")
        self._print("▸", "cyan", f"agent    {shlex.join(command)}")

    async def record(self, turn: Turn) -> None:
        line = RichText.assemble(
            (f"{turn.number:>3} ", "bold"),
            (f"{turn.outcome:<9} ", _STYLES[turn.outcome]),
            f"{turn.dialect:<18} ",
            (f"{visible(turn.request.model)} ", "cyan"),
            (f"{_tokens(turn)} ", "dim"),
            (f"{turn.duration * 1000:.0f} ms  ", "dim"),
            visible(_said(turn)),
        )
        self._console.print(line, overflow="ellipsis", no_wrap=True, crop=True, soft_wrap=False)

    async def seal(self, trace: Trace) -> None:
        if trace.stopped is not None:
            self._print("▸", "yellow", f"stopped: {trace.stopped}")
        if trace.cost is not None:
            self._print("▸", "cyan", f"cost     {trace.cost:,.6g}")

    async def aclose(self) -> None:
        pass

    def end(self, rollout: Rollout, result: AgentResult, record: object, agent: str | None) -> None:
        what = (
            f"agent ended with {result.returncode} after {result.duration:.1f} s, {len(rollout.trace)} turns"
        )
        self._print("▸", "green" if result.returncode == 0 else "red", what)
        if not len(rollout.trace):
            self._print("▸", "yellow", _unheard(rollout, agent))
        if record is not None:
            self._print("▸", "cyan", f"recorded in {record}")

    def _print(self, mark: str, style: str, text: str) -> None:
        self._console.print(RichText.assemble((f"{mark} ", style), visible(text)))


def _unheard(rollout: Rollout, agent: str | None) -> str:
    """What to do about an agent that never asked its model."""
    names = ", ".join(name for name in rollout.environ() if name.endswith("_BASE_URL"))
    what = (
        f"no model call came here: the agent made none, or it talked to somebody else. It was given {names}"
    )
    if agent is not None:
        return f"{what}, and what a known {agent} needs; its own output says more"
    known = [name.replace("_", "-") for name in AGENTS]
    return f"{what}; one that reads its model from a file of its own needs --agent ({', '.join(known)}), or that file"


def _tokens(turn: Turn) -> str:
    usage = turn.response.usage if turn.response is not None else None
    if usage is None:
        return "- tokens"
    about = "~" if usage.estimated else ""
    return f"{about}{usage.input_tokens:,} in {about}{usage.output_tokens:,} out"


def _said(turn: Turn) -> str:
    if turn.error is not None:
        return f"{turn.error.status or ''} {turn.error.message}".strip()
    assert turn.response is not None
    calls = [f"{call.name}({call.arguments})" for call in turn.response.tool_calls]
    return " ".join([*([repr(turn.response.text)] if turn.response.text else []), *calls])
