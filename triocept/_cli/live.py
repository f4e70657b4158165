"""Print a line on standard error for each exchange of a run in progress.

These lines appear between the lines of the agent's own output. A further line below an exchange shows the reason of an
error, or names a tool that the model called but the agent does not offer. However the run ends, the last line shows
how many turns were recorded.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import msgspec
from rich.console import Console
from rich.text import Text as RichText

from .._canonical.request import offered_names
from .._endpoint import Endpoint
from .._process.output import AgentResult
from .._rollout.decision import NO_POLICY, Policy, patterns_of
from .._rollout.mistakes import not_used
from .._rollout.rollout import Rollout, core_of_rollout, refusals
from .._trace.cost import usage_of
from .._trace.trace import Trace
from .._trace.turn import Turn, TurnError
from .._trace.waits import waited
from .._util.terminal import Screen, visible
from ..handlers import ScriptedModel
from .ending import in_options
from .options import similar
from .words import STYLES, counted, cut, reason

FILE_WIDTH = 200
"""Columns of a line if standard error is not a terminal."""
RESULT_LENGTH = 60
"""Maximum characters to print of a tool's result."""
MOST_UNUSED = 5
"""Maximum unused replies of a script to list."""
_NOT_PASSED = frozenset({"--record", "--record-once", "--script", "--handler", "--upstream", "--policy"})
"""Options of triocept that agents rarely have. If one comes after the agent's command, it was probably misplaced."""
MOST_TOOLS = 10
"""Maximum number of the agent's tools to name in a warning."""


class Live:
    """A recorder that prints each turn, after another recorder has written the turn to the file.

    Args:
        quiet: True to print nothing.
        record: the file in which the other recorder records the turns; None if there is no such file.
        turns: True to print each turn.
        policy: the policy that decides on tool calls; None if there is no policy.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        record: Path | None = None,
        turns: bool = True,
        policy: Policy | None = None,
    ) -> None:
        self.file = record
        """The file with the recorded turns; the last line of the output contains its name."""
        self._begun = False
        self._turns = turns
        self._policy = policy
        self._rejected: Counter[str] = Counter()
        """Number of rejected calls of each tool."""
        self._undecided: set[str] = set()
        """Names of tools whose calls were rejected because the policy has no decision about the tool."""
        self._outcomes: Counter[str] = Counter()
        self._console = Console(file=cast(IO[str], Screen()), quiet=quiet, highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = FILE_WIDTH

    def begin(self, endpoint: Endpoint, rollout: Rollout, command: Sequence[str]) -> None:
        self.opened(rollout)
        self.note(f"endpoint {endpoint.url}, rollout {rollout.id}")
        self.note(f"agent    {shlex.join(command)}")
        if misplaced := [word for word in command[1:] if word.partition("=")[0] in _NOT_PASSED]:
            self.say(
                f"{misplaced[0]} comes after the agent's command, so the agent gets it; options of triocept come "
                "before the command"
            )
        try:
            kind = os.fstat(sys.stdin.fileno()).st_mode
            is_fed = stat.S_ISREG(kind) or (
                stat.S_ISFIFO(kind) and bool(select.select([sys.stdin], [], [], 0)[0])
            )
        except (AttributeError, OSError, ValueError):  # there is no standard input, or it was closed
            is_fed = False
        if is_fed:
            self.say(
                "triocept does not pass its standard input to the agent: the agent's standard input is empty"
            )

    def say(self, warning: str) -> None:
        self._print("▸", "yellow", warning)

    def note(self, what: str) -> None:
        self._print("▸", "cyan", what)

    def opened(self, rollout: Rollout) -> None:
        self._begun = True  # `close` prints the number of recorded turns
        state = core_of_rollout(rollout)
        state.on_unknown_tools, state.logs_unused_replies = None, False  # they are printed here
        if not self._console.quiet:
            state.upstream_failed = True  # so that it is not logged: each error is printed here

    async def record(self, turn: Turn) -> None:
        self._outcomes[turn.outcome] += 1
        rejections = [each for each in turn.decisions if each.kind == "reject"]
        self._rejected.update(each.tool for each in rejections)
        self._undecided.update(each.tool for each in rejections if each.by == NO_POLICY)
        if not self._turns:
            return
        response, error = turn.response, turn.error
        usage = usage_of(turn)
        mark = "~" if usage is not None and usage.estimated else ""
        line = RichText.assemble(
            (f"{turn.number:>3} ", "bold"),
            (f"{turn.outcome:<9} ", STYLES[turn.outcome]),
            f"{turn.dialect:<18} ",
            (f"{visible(turn.request.model)} ", "cyan"),
            (
                f"{usage.input_tokens:,}{mark} in {usage.output_tokens:,}{mark} out "
                if usage is not None
                else "- tokens ",
                "dim",
            ),
            (f"{(turn.duration - waited(turn)) * 1000:.0f} ms", "dim"),
        )
        results = [" ".join(result.text[: 4 * RESULT_LENGTH].split()) for result in turn.request.tool_results]
        texts = [" ".join(f"← {cut(text, RESULT_LENGTH)!r}" for text in results)]
        if response is not None:
            calls = [f"{call.name}({call.arguments})" for call in response.tool_calls]
            texts.append(" ".join([*([repr(response.text)] if response.text else []), *calls]))
        shown = [visible(text) for text in texts if text]
        why = "" if error is None else visible(_why(error, turn))
        if why and not shown and line.cell_len + 2 + len(why) <= self._console.width:
            line.append("  ").append(why, "yellow")
            why = ""
        self._print_cut(line, *shown)
        for note in filter(None, [why, _missing_tools(turn)]):
            self._print("    └", "yellow", note)

    async def seal(self, trace: Trace) -> None:
        if trace.stopped is not None:
            self._print("▸", "yellow", f"stopped: {trace.stopped}")
        if trace.cost is not None:
            self._print("▸", "cyan", f"cost     {trace.cost:,.6g}")
        elif trace._prices:
            asked = ", ".join(sorted({turn.request.model for turn in trace}))
            self._print(
                "▸",
                "yellow",
                f"cost     unknown, because at least one of the requested models has no price ({asked})",
            )

    async def aclose(self) -> None:
        pass

    def ended(self, result: AgentResult, why: str | None) -> None:
        """Print that the agent has ended. `why` is the reason why triocept ended it; None if it ended by itself."""
        what = f"the agent ended with exit status {result.returncode} after {result.duration:.1f} s"
        if why is not None and result.returncode < 0:
            name = signal.Signals(-result.returncode).name
            what = f"triocept ended the agent ({name}) after {result.duration:.1f} s: {why}"
        if result.returncode == 127:  # as from a shell and from `env`
            what += ": a program that the agent needs (node, for example) is probably not installed; see "
            what += "the agent's output"
        self._print("▸", "green" if result.returncode == 0 else "red", what)

    def end(self, rollout: Rollout, handler: object, agent: str | None) -> None:
        """Print warnings at the end of a run without errors.

        A warning is printed if the agent made no call, or if replies of the script were not used.
        """
        if not len(rollout.trace) and rollout.trace.stopped is None:
            self.say(_without_calls(rollout, agent))
        if isinstance(handler, ScriptedModel) and (left := handler.remaining):
            self.say(f"{not_used(handler, left, ' of the script')}, because the agent ended before")
            for what in handler.unused[:MOST_UNUSED]:
                self._print("    └", "yellow", what)

    def close(self) -> None:
        """Print how many turns were recorded, even after an error or a signal. Print nothing if no rollout began."""
        if not self._begun:
            return
        if self._rejected:
            tools = ", ".join(f"{tool} ({count:,})" for tool, count in self._rejected.most_common(MOST_TOOLS))
            self.say(
                f"{counted(self._rejected.total(), 'tool call was', 'tool calls were')} rejected: {tools}"
            )
        for tool in sorted(self._undecided)[:MOST_TOOLS]:
            self._print("    └", "yellow", _undecided(tool, [*patterns_of(self._policy or [])]))
        total = sum(self._outcomes.values())
        what = counted(total, "turn", "turns")
        if self._outcomes["answered"] != total:
            what += f" ({', '.join(f'{count} {outcome}' for outcome, count in self._outcomes.items())})"
        self._print("▸", "cyan", what if self.file is None else f"{what} recorded in {self.file}")

    def _print_cut(self, line: RichText, *said: str) -> None:
        """Print `line` and the texts `said` on one line of output.

        If this line would be too long, print `line` and each text on a separate line, and cut these lines.
        """
        whole = RichText("  ").join([line, RichText(" ".join(said))]) if said else line
        fits = whole.cell_len <= self._console.width
        for each in [whole] if fits else [line, *(f"      {text}" for text in said)]:
            self._console.print(each, overflow="ellipsis", no_wrap=True, crop=True, soft_wrap=False)

    def _print(self, mark: str, style: str, text: str) -> None:
        self._console.print(RichText.assemble((f"{mark} ", style), visible(text)))


def _why(error: TurnError, turn: Turn) -> str:
    """Return the reason of an error.

    If the reason of a failed call has several lines, return only the first sentence of it, because the command prints
    the whole error when it ends.
    """
    first, _, more = error.message.strip().partition("\n")
    is_cut = turn.outcome == "failed" and more
    if is_cut:
        error = msgspec.structs.replace(error, message=first.partition(". ")[0])
    return f"{in_options(reason(error))}{' …' if is_cut else ''}".replace(
        f" for rollout {turn.rollout}", "", 1
    )


def _missing_tools(turn: Turn) -> str:
    """Return a warning if the answer calls tools that the request does not offer; otherwise an empty text.

    Most agents ignore such calls.
    """
    if turn.response is None:
        return ""
    there = offered_names(turn.request)
    missing = sorted({call.name for call in turn.response.tool_calls} - set(there))
    if not missing:
        return ""
    what = f"the answer calls {', '.join(missing)}, but the agent offers"
    if not there:
        return f"{what} no tools"
    more = f", and {len(there) - MOST_TOOLS} more" if len(there) > MOST_TOOLS else ""
    return f"{what} only {', '.join(there[:MOST_TOOLS])}{more}"


def _undecided(tool: str, patterns: Sequence[str]) -> str:
    if near := similar(tool, patterns):
        named = " and ".join(near)
        return f"the policy decides about {named}, but the agent's tool is {tool}: write {tool} in the policy"
    return f"the policy has no decision about {tool}: add {tool}, or '*' for all other tools, to the policy"


def _without_calls(rollout: Rollout, agent: str | None) -> str:
    """Return a text with advice for a rollout in which the agent made no model call."""
    refused = refusals(rollout)
    if count := refused.count:
        many = "1 request was refused" if count == 1 else f"{count:,} requests were refused"
        return f"no model call was accepted: {many}; the last refusal is {refused.newest()[-1]}"
    what = "triocept received no model call: the agent made none, or the agent ignores"
    if agent is not None:
        return f"{what} the configuration that triocept writes for {agent}; the agent's output may contain the reason"
    given = next(name for name in rollout.environ() if name.endswith("_BASE_URL"))
    return f"{what} {given} and related variables. If the agent reads its model from a file, start it with --agent"
