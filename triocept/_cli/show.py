"""What a person sees of a run: a line for each exchange, on standard error, between the agent's own output.

Under it, in lines of their own, stand the reason of what went wrong, and a tool that the agent has not. Whatever way
the run ends, its last line says what was recorded.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from rich.console import Console
from rich.text import Text as RichText

from .._canonical.request import Tool
from .._endpoint import Endpoint
from .._rollout.output import AgentResult
from .._rollout.rollout import Rollout
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError
from ..agents import AGENTS
from ..handlers import ScriptedModel
from .screen import Screen, visible

__all__ = ["Show"]

FILE_WIDTH = 200
"""Columns, where nobody's screen says how many there are."""
REASON_LENGTH = 2000
"""Characters of a reason: what a provider says may be a page of HTML."""
RESULT_LENGTH = 60
"""Characters of what a tool gave."""
MOST_TOOLS = 10
"""Tools that are named."""
_STYLES = {"answered": "green", "refused": "yellow", "failed": "bold red", "abandoned": "magenta"}


class Show:
    """A recorder that prints. Behind the one that writes: it gets what has been recorded.

    Args:
        quiet: nothing is printed.
        record: the file that the turns are recorded in.
    """

    def __init__(self, *, quiet: bool = False, record: Path | None = None) -> None:
        self._record = record
        self._begun = False
        self._outcomes: Counter[str] = Counter()
        self._console = Console(file=cast(IO[str], Screen()), quiet=quiet, highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = FILE_WIDTH

    def begin(self, endpoint: Endpoint, rollout: Rollout, command: Sequence[str]) -> None:
        self.opened()
        self._print("▸", "cyan", f"endpoint {endpoint.url}, rollout {rollout.id}")
        self._print("▸", "cyan", f"agent    {shlex.join(command)}")

    def opened(self) -> None:
        """There is something to sum up at the end."""
        self._begun = True

    async def record(self, turn: Turn) -> None:
        self._outcomes[turn.outcome] += 1
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
        if turn.error is not None:
            self._print("    └", "yellow", _reason(turn.error))
        if missing := _missing_tools(turn):
            self._print("    └", "yellow", missing)

    async def seal(self, trace: Trace) -> None:
        if trace.stopped is not None:
            self._print("▸", "yellow", f"stopped: {trace.stopped}")
        if trace.cost is not None:
            self._print("▸", "cyan", f"cost     {trace.cost:,.6g}")

    async def aclose(self) -> None:
        pass

    def end(self, rollout: Rollout, result: AgentResult, handler: object, agent: str | None) -> None:
        what = f"agent ended with {result.returncode} after {result.duration:.1f} s"
        self._print("▸", "green" if result.returncode == 0 else "red", what)
        if not len(rollout.trace) and rollout.trace.stopped is None:
            self._print("▸", "yellow", _unheard(rollout, agent))
        if isinstance(handler, ScriptedModel) and (left := handler.remaining):
            self._print(
                "▸", "yellow", f"{counted(left, 'reply', 'replies')} of the script left: nobody asked"
            )

    def close(self) -> None:
        """What was recorded, also of a run that an error or a signal ended. Nothing, if none began."""
        if not self._begun:
            return
        total = sum(self._outcomes.values())
        what = counted(total, "turn", "turns")
        if self._outcomes["answered"] != total:
            what += f" ({', '.join(f'{count} {outcome}' for outcome, count in self._outcomes.items())})"
        self._print("▸", "cyan", what if self._record is None else f"{what} recorded in {self._record}")

    def _print(self, mark: str, style: str, text: str) -> None:
        self._console.print(RichText.assemble((f"{mark} ", style), visible(text)))


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _reason(error: TurnError) -> str:
    """What went wrong, with the status that the agent got; a message that begins with it is not told it twice."""
    text = error.message
    if error.status is not None and not text.startswith((f"{error.status} ", f"{error.status}:")):
        text = f"{error.status} {text}"
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]}…"


def _missing_tools(turn: Turn) -> str:
    """What is to be said of a call of a tool that the request does not offer: most agents do nothing, and end well."""
    if turn.response is None:
        return ""
    there = [name for tool in turn.request.tools for name in _tool_names(tool)]
    missing = sorted({call.name for call in turn.response.tool_calls} - set(there))
    if not missing:
        return ""
    what = f"{', '.join(missing)}: not among the tools that the agent offers"
    if not there:
        return f"{what}; it offers none"
    more = f", and {len(there) - MOST_TOOLS} more" if len(there) > MOST_TOOLS else ""
    return f"{what}: {', '.join(there[:MOST_TOOLS])}{more}"


def _tool_names(tool: Tool) -> list[str]:
    """Its name, and those of the tools in it: a namespace of Responses holds some."""
    inner = (tool.extra or {}).get("tools")
    names = [each.get("name") for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
    return [tool.name, *(name for name in names if isinstance(name, str))]


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
    """What the tools gave that ran before it, and what was answered."""
    results = [f"← {_short(result.text)}" for result in turn.request.tool_results]
    response = turn.response
    if response is None:
        return " ".join(results)
    calls = [f"{call.name}({call.arguments})" for call in response.tool_calls]
    return " ".join([*results, *([repr(response.text)] if response.text else []), *calls])


def _short(text: str) -> str:
    line = " ".join(text[: 4 * RESULT_LENGTH].split())
    return repr(line if len(line) <= RESULT_LENGTH else f"{line[:RESULT_LENGTH]}…")
