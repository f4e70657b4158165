"""`--live`: a table on the terminal, which shows rollouts and calls while they run.

Rules:

1. A rollout's row shows a call as soon as the call arrives, and then the last words of the call's answer.
2. Drawing blocks the event loop. So only the rows that fit on the terminal are drawn, and nothing is drawn if nothing
   has changed. The table shows rollouts that wait for a decision first, then rollouts whose last call failed, then the
   latest rollouts.
3. On narrow terminals, the table has fewer columns. If standard error is no terminal, a line is printed for each
   exchange, as without `--live`.
4. Text of an agent or a model cannot control the terminal.
5. Of the rollouts that have ended, only the latest keep a row. The sums below the table include rollouts without a row.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import IO, cast, final

import trio
from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from .._canonical.price import Price
from .._trace.cost import cost_of, usage_of
from .._trace.texts import task_name
from .._trace.turn import Turn
from .._util.figures import clock, counted, short
from .._util.terminal import Screen, visible
from ..traces import (
    CallArrived,
    DecisionAsked,
    DecisionMade,
    IncrementSent,
    RolloutEnded,
    RolloutEvent,
    RolloutOpened,
    TurnLost,
    TurnSettled,
)

_REFRESH = 0.25
_MOST_WORDS = 200
_MOST_ENDED = 50
_RATE_SECONDS = 10.0
"""Length, in seconds, of the latest period for which the rate of tokens is computed."""
_COLUMNS = (
    # title, minimum columns of the terminal, aligned to the right
    ("rollout", 0, False),
    ("state", 0, False),
    ("model", 110, False),
    ("turns", 30, True),
    ("in", 50, True),
    ("out", 50, True),
    ("tokens/s", 100, True),
    ("cost", 120, True),
    ("failed", 90, True),
    ("last words", 60, False),
)
_STYLES = {"waiting": "bold yellow", "failed": "bold red", "running": "green", "idle": "dim", "ended": "dim"}


class _Row:
    """The counts and texts of one rollout, or the sums over all rollouts."""

    def __init__(self, name: str, at: float) -> None:
        self.name = name
        self.changed_at = at
        self.model = self.words = ""
        self.speaker = ""
        """Id of the exchange whose answer is being streamed; `words` is the end of this answer."""
        self.turns = self.failed = self.read = self.written = 0
        self.estimated = self.last_failed = self.has_ended = False
        self.cost: float | None = 0.0
        self.calls: dict[str, float] = {}
        """By the id of each call in flight: the time when it arrived, in seconds since the epoch."""
        self.questions: dict[tuple[str, int], str] = {}
        """Tool calls that wait for a decision. The key is the id of the exchange, and the number of the `DecisionAsked`
        event."""
        self.rates: deque[tuple[float, int]] = deque()
        """Pairs of time and output tokens, one for each turn of the last `_RATE_SECONDS` seconds."""

    def count(self, turn: Turn, at: float, prices: Mapping[str, Price] | None) -> None:
        """Add the tokens, the cost and the outcome of `turn` to the counts of the row."""
        self.turns += 1
        self.failed += turn.outcome != "answered"
        if (usage := usage_of(turn)) is not None:
            self.read, self.written = self.read + usage.input_tokens, self.written + usage.output_tokens
            self.estimated = self.estimated or usage.estimated
            self.rates.append((at, usage.output_tokens))
            self._forget(at)
        cost = cost_of((turn,), prices) if prices else None
        self.cost = None if cost is None or self.cost is None else self.cost + cost

    def figures(self, now: float, *, has_prices: bool) -> dict[str, str]:
        """Return the texts of the row's cells that contain numbers. The keys are the titles of the columns."""
        mark = "~" if self.estimated else ""
        self._forget(now)
        rate = sum(count for _, count in self.rates) / _RATE_SECONDS
        return {
            "turns": f"{self.turns:,}",
            "in": f"{short(self.read)}{mark}",
            "out": f"{short(self.written)}{mark}",
            "tokens/s": f"{rate:.1f}" if self.rates else "-",
            "cost": f"{self.cost:,.4g}" if has_prices and self.cost is not None else "-",
            "failed": f"{self.failed:,}",
        }

    def _forget(self, now: float) -> None:
        while self.rates and now - self.rates[0][0] >= _RATE_SECONDS:
            self.rates.popleft()

    @property
    def state(self) -> str:
        if self.questions:
            return "waiting"
        if self.calls:
            return "running"
        if self.last_failed:
            return "failed"
        return "ended" if self.has_ended else "idle"


@final
class LiveTable:
    """The table of `--live`. Pass its method `take` as `on_event`. `prices` are the run's prices, by model name."""

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = prices
        self._rows: dict[str, _Row] = {}
        self._ended: deque[str] = deque()
        """The rollouts that have ended but still have a row, in the order in which they ended."""
        self._all = _Row("all", 0)
        self._count = 0
        """Number of all rollouts so far."""
        self._has_changed = True

    def take(self, event: RolloutEvent) -> None:
        """Change the rows of the table according to `event`, an event of a rollout."""
        if (row := self._rows.get(event.run)) is None:
            if not isinstance(event, RolloutOpened):
                return
            name = task_name(event.opening.metadata) or event.opening.rollout
            row = self._rows[event.run] = _Row(name, event.at)
            self._count += 1
        row.changed_at, self._has_changed = event.at, True
        match event:
            case CallArrived(exchange=exchange, request=request):
                row.calls[exchange], row.model = event.at, request.model
            case IncrementSent(text=text, tool=tool):
                before = row.words if row.speaker == event.exchange else ""
                row.speaker, row.words = (
                    event.exchange,
                    (before + (f"{tool} " if tool else "") + text)[-_MOST_WORDS:],
                )
            case DecisionAsked():
                row.questions[event.exchange, event.number] = f"{event.tool} {event.arguments}"[:_MOST_WORDS]
            case DecisionMade(exchange=exchange, asked=asked):
                row.questions.pop((exchange, asked), None)
            case TurnLost(exchange=exchange):
                self._end_call(row, exchange)
                row.failed += 1
                self._all.failed += 1
            case TurnSettled(turn=turn):
                self._end_call(row, turn.id)
                for each in (row, self._all):
                    each.count(turn, event.at, self._prices)
                row.last_failed = turn.outcome == "failed"
                if turn.error is not None:
                    row.words = turn.error.message[:_MOST_WORDS]
                elif turn.response is not None and turn.response.text:
                    row.words = turn.response.text[-_MOST_WORDS:]
            case RolloutEnded():
                row.has_ended = True
                row.calls, row.questions = {}, {}
                self._ended.append(event.run)
                if len(self._ended) > _MOST_ENDED:
                    del self._rows[self._ended.popleft()]

    def _end_call(self, row: _Row, exchange: str) -> None:
        row.calls.pop(exchange, None)
        row.questions = {key: text for key, text in row.questions.items() if key[0] != exchange}

    def picture(self, width: int, height: int) -> Table:
        """Return the table for a terminal of `width` columns and `height` lines."""
        now = time.time()
        order = ["waiting", "failed", "running", "idle", "ended"]
        rows = sorted(self._rows.values(), key=lambda row: (order.index(row.state), -row.changed_at))
        shown = rows[: max(1, height - 4)]
        table = Table(
            box=None, pad_edge=False, show_edge=False, expand=True, caption=self._caption(len(shown), width)
        )
        columns = [(title, right) for title, least, right in _COLUMNS if width >= least]
        for title, right in columns:
            ratio = 1 if title == "last words" else None
            table.add_column(
                title, justify="right" if right else "left", ratio=ratio, no_wrap=True, overflow="ellipsis"
            )
        for row in shown:
            cells = self._cells(row, now)
            table.add_row(*(cells[title] for title, _ in columns))
        return table

    def _caption(self, shown: int, width: int) -> Text:
        calls = sum(len(row.calls) for row in self._rows.values())
        figures = self._all.figures(time.time(), has_prices=bool(self._prices))
        parts = [f"{counted(calls, 'call', 'calls')} in flight"]
        if self._count > shown:
            parts.append(f"{self._count - shown:,} more rollouts")
        if self._count > 1:
            parts.append(f"all: {figures['turns']} turns")
            parts += [f"{figures[name]} {name}" for name in ("in", "out", "tokens/s", "failed")]
            parts += [f"cost {figures['cost']}"] if self._prices else []
        while len(text := ", ".join(parts)) > width and len(parts) > 1:
            parts.pop()
        return Text(text, "dim")

    def _cells(self, row: _Row, now: float) -> dict[str, Text]:
        state = row.state
        since = f" {clock(now - min(row.calls.values()))}" if row.calls else ""
        words = next(iter(row.questions.values()), row.words)
        cells = {name: Text(text) for name, text in row.figures(now, has_prices=bool(self._prices)).items()}
        cells["failed"].stylize("bold red" if row.failed else "dim")
        return cells | {
            "rollout": Text(visible(row.name)[:20], "bold"),
            "state": Text(f"{state}{since}", _STYLES[state]),
            "model": Text(visible(row.model)[:24], "cyan"),
            "last words": Text(visible(" ".join(words.split()))),
        }

    async def show(self, live: RichLive, console: Console) -> None:
        while True:
            if self._has_changed or any(row.calls for row in self._rows.values()):
                self._has_changed = False
                live.update(self.picture(console.width, console.height), refresh=True)
            await trio.sleep(_REFRESH)


def has_terminal() -> bool:
    """Return True if standard error is a terminal that can redraw lines."""
    return Console(file=cast(IO[str], Screen())).is_terminal and not Console(stderr=True).is_dumb_terminal


@asynccontextmanager
async def shown_table(table: LiveTable | None) -> AsyncIterator[None]:
    """Draw the table below the other output while the block runs. The last state of the table stays on the screen."""
    if table is None:
        await trio.lowlevel.checkpoint()
        yield
        return
    console = Console(file=cast(IO[str], Screen()), highlight=False, markup=False, force_terminal=True)
    live = RichLive(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    sys.stderr.flush()
    with live:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(table.show, live, console)
            yield
            nursery.cancel_scope.cancel()
        live.update(table.picture(console.width, console.height), refresh=True)
