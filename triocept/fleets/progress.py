"""Progress display of a fleet. A terminal shows updated lines, and a log gets a new line for each map every 30 seconds.

Rules:

1. The display never delays a task: if the terminal does not accept output, lines of the display are dropped.
2. If the program prints to the terminal, its output appears unchanged above the display. The display does not change
   output that is redirected to a file or a pipe.
3. The last line about each map summarizes the outcomes of its tasks, even if the fleet ends with an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast, final

import trio

from .._util.figures import clock, counted, short
from .._util.terminal import Screen, visible
from .events import FleetEvent, MapEnded, MapStarted, Observers, WorkerDied, WorkerLeft, WorkerStarted
from .tally import Tally

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REFRESH = 0.25
"""Seconds between two refreshes of the display."""
LINE_EVERY = 30.0
"""Seconds between two lines about the same map in a log."""
MOST_SHOWN = 4
"""Maximum number of maps that a terminal shows at the same time."""


class Words:
    """The texts that the progress display shows about one map. An evaluation shows other texts through a subclass."""

    def name(self, tally: Tally) -> str:
        return tally.name

    def failure(self, tally: Tally) -> str:
        """Return a description of the last failure; empty if no task has failed."""
        return tally.last_failure

    def counts(self, tally: Tally, now: float, workers: int) -> str:
        return _counts(tally, now, workers)

    def summary(self, tally: Tally, now: float) -> str:
        return summary(tally, now)

    def below(self, width: int, height: int) -> RenderableType | None:
        """Return a text of at most `height` lines, shown below the lines about maps; None for no text."""
        return None


async def show_progress(
    observers: Observers,
    scope: trio.CancelScope,
    *,
    words: Words | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    progress = Progress(words or Words())
    observers.listen(progress.add)
    with scope:
        task_status.started()
        if Screen().isatty() and os.environ.get("TERM", "") not in ("", "dumb"):  # lines can change there
            await _LiveDisplay(progress).show()
        else:
            await _LogDisplay(progress).show()


@final
class Progress:
    """State of the progress display: a `Tally` for each running map, and summaries that are not printed yet."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.tallies: dict[int, Tally] = {}
        """The `Tally` of each running map, by the number of the map."""
        self.workers: int = 0
        self._lines_due: list[str] = []

    def add(self, event: FleetEvent) -> None:
        now = trio.current_time()
        match event:
            case MapStarted():
                self.tallies[event.map] = Tally(event.function, event.total, now)
            case MapEnded():
                tally = self.tallies.pop(event.map)
                tally.add(event, now)
                self._lines_due.append(self.words.summary(tally, now))
            case WorkerStarted():
                self.workers += 1
            case WorkerDied() | WorkerLeft():
                self.workers -= 1
            case _ if (of := getattr(event, "map", None)) in self.tallies:
                self.tallies[of].add(event, now)
            case _:
                pass

    def take_lines(self) -> list[str]:
        lines, self._lines_due = self._lines_due, []
        return [line for line in lines if line]


@final
class _LogDisplay:
    """Writer of progress to a log: every `LINE_EVERY` seconds, it prints one line for each running map."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._screen = Screen()

    async def show(self) -> None:
        try:
            while True:
                with trio.move_on_after(LINE_EVERY):
                    while True:
                        await trio.sleep(REFRESH)
                        self._print(self._progress.take_lines())
                now = trio.current_time()
                for tally in self._progress.tallies.values():
                    left = _time_left(tally, now)
                    words = self._progress.words
                    line = f"{clock(tally.elapsed(now))} {words.name(tally)}: {_place(tally)}, "
                    line += words.counts(tally, now, self._progress.workers) + (f", {left}" if left else "")
                    failure = words.failure(tally)
                    self._print([f"{line}; {failure}" if failure else line])
        finally:
            self._screen = Screen(patience=1)
            self._print(self._progress.take_lines())

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self._screen.write(f"▸ {visible(line)}\n")


@final
class _LiveDisplay:
    """Progress display in a terminal: its lines are updated in place, below the program's other output."""

    def __init__(self, progress: Progress) -> None:
        from rich.console import Console

        self._progress = progress
        self._screen = Screen()
        self._console = Console(
            file=cast(IO[str], self._screen), force_terminal=True, highlight=False, markup=False
        )
        self._live: Live | None = None
        self._is_midline = False
        """True if the program's last output, for example a prompt, did not end with a newline."""

    async def show(self) -> None:
        from rich.live import Live

        with self._above("stdout"), self._above("stderr"):
            try:
                while True:
                    if not self._is_midline:
                        self._print_due()
                        if self._live is None:  # a stopped display would overwrite later output
                            self._live = Live(
                                console=self._console,
                                get_renderable=self._picture,
                                auto_refresh=False,
                                transient=True,
                                redirect_stdout=False,
                                redirect_stderr=False,
                            )
                            self._live.start()
                        self._live.refresh()
                    await trio.sleep(REFRESH)
            finally:
                self._hide()
                self._print_due()

    @contextmanager
    def _above(self, name: str) -> Iterator[None]:
        """While the body runs, print what the program writes to its `stdout` or `stderr` (`name`) above the display.

        If this stream is not a terminal, change nothing.
        """
        stream = getattr(sys, name)
        if stream is None or not stream.isatty():
            yield
            return
        above = _Above(stream, self._before_output)
        setattr(sys, name, above)
        try:
            yield
        finally:
            if getattr(sys, name) is above:
                setattr(sys, name, stream)

    def _before_output(self, text: str) -> None:
        self._hide()
        self._is_midline = not text.endswith("\n")

    def _hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _print_due(self) -> None:
        lines = self._progress.take_lines()
        if lines:
            self._hide()
        for line in lines:
            self._console.print(f"▸ {visible(line)}", soft_wrap=True)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = trio.current_time()
        tallies = list(self._progress.tallies.values())
        lines: list[RenderableType] = []
        for tally in tallies[:MOST_SHOWN]:
            grid = Table.grid(padding=(0, 1), expand=True)
            grid.add_column(no_wrap=True)
            grid.add_column(ratio=1)
            grid.add_column(no_wrap=True)
            grid.add_column(no_wrap=True)
            grid.add_row(
                Text(visible(self._progress.words.name(tally))[:30], style="bold"),
                ProgressBar(
                    total=tally.total, completed=tally.there, pulse=tally.total is None, animation_time=now
                ),
                _place(tally),
                Text(_time_left(tally, now), style="cyan"),
            )
            counts = f"  {self._progress.words.counts(tally, now, self._progress.workers)}"
            lines += [grid, Text(counts, style="dim", no_wrap=True, overflow="ellipsis")]
            if failure := self._progress.words.failure(tally):
                lines.append(Text(f"  {visible(failure)}", style="yellow", no_wrap=True, overflow="ellipsis"))
        if len(tallies) > MOST_SHOWN:
            lines.append(f"and {counted(len(tallies) - MOST_SHOWN, 'more map', 'more maps')}")
        size = self._console.size
        below = self._progress.words.below(size.width, size.height - len(lines) - 1) if lines else None
        return Group(*lines, *([] if below is None else [below]))


class _Above:
    """Replacement of `sys.stdout` or `sys.stderr` that prints the program's output above the progress display."""

    def __init__(self, stream: Any, before_output: Any) -> None:
        self._stream = stream
        self._before_output = before_output

    def write(self, text: str) -> int:
        if text:
            self._before_output(text)
        written: int = self._stream.write(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _place(tally: Tally) -> str:
    if tally.total is None:
        return f"{tally.there:,}"
    share = tally.there / tally.total if tally.total else 1.0
    return f"{tally.there:,} of {tally.total:,} ({int(100 * share)} %)"


def _time_left(tally: Tally, now: float) -> str:
    """Return the estimated time left as text, for example `8s left` or `3h05m left`; empty if the time is unknown."""
    if (seconds := tally.seconds_left(now)) is None:
        return ""
    return f"{round(seconds)}s left" if seconds < 100 else f"{clock(seconds)} left"


def _counts(tally: Tally, now: float, workers: int) -> str:
    parts = [*_ends(tally)]
    if tally.skipped:
        parts.append(f"{tally.skipped:,} done before")
    if tally.again:
        parts.append(f"{tally.again:,} tried again")
    parts.append(f"{tally.in_flight:,} in flight")
    if (rate := tally.tokens_per_second(now)) is not None:
        parts.append(f"{short(round(rate))} tokens/s")
    parts.append(counted(workers, "worker", "workers"))
    return ", ".join(parts)


_WORDS = {"value": "done", "error": "failed", "lost": "lost", "stopped": "stopped"}


def _ends(tally: Tally) -> list[str]:
    return [
        f"{tally.outcomes[name]:,} {word}"
        for name, word in _WORDS.items()
        if tally.outcomes[name] or name == "value"
    ]


def summary(tally: Tally, now: float) -> str:
    """Return the line that is printed when a map ends.

    An example: `solve: 1,000 in 12m03s: 984 done, 12 failed (9 AgentFailed, 3 ValueError), 4 lost`.
    """
    if tally.skipped and tally.skipped == tally.there and tally.total in (None, tally.there):
        return f"{tally.name}: all {tally.skipped:,} were done in an earlier run"
    elapsed = tally.elapsed(now)
    ends = _ends(tally)
    if tally.kinds:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in tally.kinds.most_common())
        ends = [f"{end} ({kinds})" if end.endswith(" failed") else end for end in ends]
    if tally.skipped:
        ends.append(f"{tally.skipped:,} done before")
    if tally.again:
        ends.append(f"{tally.again:,} tried again")
    if tally.tokens:
        ends.append(f"{short(tally.tokens)} tokens, {short(round(tally.tokens / max(elapsed, 0.001)))}/s")
    if tally.unfinished:
        ends.append(f"{tally.unfinished:,} cut short")
    agents_failed = tally.kinds["AgentFailed"] == tally.outcomes.total() > 0  # their errors name the cause
    if tally.rollouts and not tally.turns and not agents_failed:
        ends[-1] += "; no rollout received a model call: check the base URL and the key that the agent uses"
    whole = tally.total is None or tally.there == tally.total
    count = f"{tally.there:,}" if whole else f"{tally.there:,} of {tally.total:,}"
    return f"{tally.name}: {count} in {clock(elapsed)}: {', '.join(ends)}"
