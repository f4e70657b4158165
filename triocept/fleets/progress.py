"""How far a fleet is, for a person: lines that change in a terminal, a line now and then in a log, and a last word.

Rules:

1. It costs nobody a wait: a screen that is held up costs lines.
2. What the program prints itself stands above, whole; where it goes, it goes as without this.
3. Whatever way the fleet ends, each map's last line says what became of its tasks.
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
"""Seconds between two pictures; a person sees no more."""
LINE_EVERY = 30.0
"""Seconds between two lines of a map in a log."""
MOST_SHOWN = 4
"""Maps that a terminal shows at once."""


async def show_progress(
    observers: Observers, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Show it until this is cancelled."""
    progress = Progress()
    observers.listen(progress.add)
    task_status.started()
    if _is_terminal():
        await _Picture(progress).show()
    else:
        await _Lines(progress).show()


def _is_terminal() -> bool:
    """Whether lines can change on it."""
    return Screen().isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@final
class Progress:
    """What is to be shown: one tally for each map that runs, and what has been said of none yet."""

    def __init__(self) -> None:
        self.tallies: dict[int, Tally] = {}
        """Of maps that run."""
        self.workers: int = 0
        self._said: list[str] = []

    def add(self, event: FleetEvent) -> None:
        """Something happened."""
        now = trio.current_time()
        match event:
            case MapStarted():
                self.tallies[event.map] = Tally(event.function, event.total, now)
            case MapEnded():
                tally = self.tallies.pop(event.map)
                tally.add(event, now)
                self._said.append(last_word(tally, now))
            case WorkerStarted():
                self.workers += 1
            case WorkerDied() | WorkerLeft():
                self.workers -= 1
            case _ if (of := getattr(event, "map", None)) in self.tallies:
                self.tallies[of].add(event, now)
            case _:
                pass

    def take_said(self) -> list[str]:
        """What is to be said, once, and stays."""
        said, self._said = self._said, []
        return said


@final
class _Lines:
    """A line now and then."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._screen = Screen()

    async def show(self) -> None:
        try:
            while True:
                with trio.move_on_after(LINE_EVERY):
                    while True:
                        await trio.sleep(REFRESH)
                        self._say(self._progress.take_said())
                now = trio.current_time()
                self._say(
                    [_line(tally, now, self._progress.workers) for tally in self._progress.tallies.values()]
                )
        finally:
            self._screen = Screen(patience=1)
            self._say(self._progress.take_said())

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            self._screen.write(f"▸ {visible(line)}\n")


@final
class _Picture:
    """Lines that change, at the end of a terminal."""

    def __init__(self, progress: Progress) -> None:
        from rich.console import Console

        self._progress = progress
        self._screen = Screen()
        self._console = Console(
            file=cast(IO[str], self._screen), force_terminal=True, highlight=False, markup=False
        )
        self._live: Live | None = None
        self._is_midline = False
        """Whether the program has printed a line that goes on: a prompt, perhaps."""

    async def show(self) -> None:
        with self._above("stdout"), self._above("stderr"):
            try:
                while True:
                    self._refresh()
                    await trio.sleep(REFRESH)
            finally:
                self._hide()
                self._say()

    @contextmanager
    def _above(self, name: str) -> Iterator[None]:
        """Have what the program prints there stand above the picture, if it goes to the terminal."""
        stream = getattr(sys, name)
        if stream is None or not stream.isatty():
            yield
            return
        above = _Above(stream, self._make_room)
        setattr(sys, name, above)
        try:
            yield
        finally:
            if getattr(sys, name) is above:
                setattr(sys, name, stream)

    def _make_room(self, text: str) -> None:
        self._hide()
        self._is_midline = not text.endswith("\n")

    def _hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _say(self) -> None:
        """What stays, above."""
        said = self._progress.take_said()
        if said:
            self._hide()
        for line in said:
            self._console.print(f"▸ {visible(line)}", soft_wrap=True)

    def _refresh(self) -> None:
        from rich.live import Live

        if self._is_midline:
            return
        self._say()
        if self._live is None:  # one that was stopped would draw over what was printed since
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

    def _picture(self) -> RenderableType:
        from rich.console import Group

        now = trio.current_time()
        tallies = list(self._progress.tallies.values())
        shown = [_map_picture(tally, now, self._progress.workers) for tally in tallies[:MOST_SHOWN]]
        if len(tallies) > MOST_SHOWN:
            shown.append(f"and {counted(len(tallies) - MOST_SHOWN, 'more map', 'more maps')}")
        return Group(*shown)


class _Above:
    """A stream of the program's, in front of the picture."""

    def __init__(self, stream: Any, make_room: Any) -> None:
        self._stream = stream
        self._make_room = make_room

    def write(self, text: str) -> int:
        if text:
            self._make_room(text)
        written: int = self._stream.write(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _map_picture(tally: Tally, now: float, workers: int) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=tally.total, completed=tally.there, pulse=tally.total is None, animation_time=now)
    grid.add_row(
        Text(visible(tally.name)[:30], style="bold"),
        bar,
        _place(tally),
        Text(_time_left(tally, now), style="cyan"),
    )
    lines: list[RenderableType] = [grid, _one_line(f"  {_counts(tally, now, workers)}", "dim")]
    if tally.last_failure:
        lines.append(_one_line(f"  {visible(tally.last_failure)}", "yellow"))
    return Group(*lines)


def _one_line(text: str, style: str) -> RenderableType:
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _line(tally: Tally, now: float, workers: int) -> str:
    """How far a map is, for a log."""
    left = _time_left(tally, now)
    parts = [
        f"{clock(tally.elapsed(now))} {tally.name}: {_place(tally)}",
        _counts(tally, now, workers),
        *([left] if left else []),
    ]
    line = ", ".join(parts)
    return f"{line}; {tally.last_failure}" if tally.last_failure else line


def _place(tally: Tally) -> str:
    if tally.total is None:
        return f"{tally.there:,}"
    share = tally.there / tally.total if tally.total else 1.0
    return f"{tally.there:,} of {tally.total:,} ({int(100 * share)} %)"


def _time_left(tally: Tally, now: float) -> str:
    seconds = tally.seconds_left(now)
    return "" if seconds is None else f"{_rough(seconds)} left"


def _rough(seconds: float) -> str:
    """`8s`, `3m10s`, `3h05m`: of what is guessed."""
    return f"{round(seconds)}s" if seconds < 100 else clock(seconds)


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
    """`984 done`, `12 failed`."""
    return [
        f"{tally.outcomes[name]:,} {word}"
        for name, word in _WORDS.items()
        if tally.outcomes[name] or name == "value"
    ]


def last_word(tally: Tally, now: float) -> str:
    """What became of a map: `solve: 1,000 in 12m03s: 984 done, 12 failed (9 AgentFailed, 3 ValueError), 4 lost`."""
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
    whole = tally.total is None or tally.there == tally.total
    count = f"{tally.there:,}" if whole else f"{tally.there:,} of {tally.total:,}"
    return f"{tally.name}: {count} in {clock(elapsed)}: {', '.join(ends)}"
