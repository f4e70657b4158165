"""Hold the runs that the page shows, and answer the page's requests. `LiveView` adds live events and decisions.

A search runs in the event loop. Every 3 ms, even within one long message, it lets other tasks run.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import trio

from .._canonical.content import Json
from .._trace.texts import text_of
from .._trace.trace import Trace, snapshot
from .compare import compared
from .files import html_of
from .protocol import VERSION
from .runs import BRIEF, Row, Run, members

_MOST_HITS = 200
_MOST_MESSAGES = 500
_AROUND = 80
"""Number of characters that an excerpt contains before and after the found text."""
_SLICE = 0.003
"""Seconds for which a search runs before it lets other tasks run."""
MOST_QUERY = 500
"""Maximum characters of the text that is searched for."""
_STEPS = 100_000
"""Maximum number of compared characters between two readings of the clock. These comparisons take about 1 ms."""
_TOOL = ("name", "description", "parameters", "kind")
_NUMBERS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


class Source:
    """The recorded runs that a page shows.

    Args:
        title: text at the top of the page.
        notes: descriptions of problems in the files, which the page shows.
    """

    can_decide = False
    live = False

    def __init__(self, title: str, notes: Sequence[str] = ()) -> None:
        self.title = title
        self.notes: list[str] = [*notes]
        self.runs: dict[str, Run] = {}
        """The runs, by `Trace.run`, in the order in which they began."""
        self.evaluation: Row | None = None
        """The tasks of the evaluations, as in a snapshot; None if the runs belong to no evaluation."""
        self.gone: dict[str, Row] = {}
        """Rows of old runs, by `Trace.run`. The other data of these runs is no longer kept."""
        self._count = 0
        """Number of runs that were added so far."""
        self.seq = 0
        """Number of the last event of the stream."""

    def add(self, trace: Trace, file: str = "") -> Run:
        """Add the run of `trace`. `file` is the name of its file if the page shows several files; otherwise empty."""
        branch = trace.branch
        parent = branch.run or branch.rollout if branch is not None else None
        self._count += 1
        run = Run(trace, parent, file, self._count)
        while (
            run.id in self.runs
        ):  # an old file: two rollouts have equal ids, and the file has no ids of runs
            run.id += "'"
        self.runs[run.id] = run
        return run

    def snapshot(self) -> Row:
        """Return the state with which a page starts: the rows of all runs, the calls in flight, and open questions."""
        rows = [*self.gone.values(), *(run.row() for run in self.runs.values())]
        return {
            "seq": self.seq,
            "version": VERSION,
            "live": self.live,
            "title": self.title,
            "now": time.time(),
            "can_decide": self.can_decide,
            "rows": sorted(rows, key=lambda row: row["opened_at"] or 0),
            "calls": [self.whole_call(call) for run in self.runs.values() for call in run.calls.values()],
            "waiting": self.waiting(),
            "notes": self.notes,
            "evaluation": self.evaluation,
        }

    async def stream(self, last: int | None) -> AsyncIterator[bytes]:
        """Yield only the snapshot, because recorded runs do not change."""
        yield event_of(self.seq, "snapshot", self.snapshot())

    def whole_call(self, call: Row) -> Row:
        """Return `call`, a call in flight, with the text of its answer so far. A recorded run has no such text."""
        return call

    def waiting(self) -> list[Row]:
        """Return the tool calls that wait for a decision. Recorded runs have none."""
        return []

    def document(self) -> bytes:
        """Return all runs with their turns and messages as JSON, for a page without a server."""
        snapshot = self.snapshot() | {"live": False, "can_decide": False, "calls": [], "waiting": []}
        runs = {run.id: run.document() for run in self.runs.values()}
        return msgspec.json.encode({"version": VERSION, "snapshot": snapshot, "runs": runs})

    async def file(self, run: str) -> bytes | None:
        """Make one run into an HTML file, in a worker thread, and return the file; None if the run is unknown."""
        found = self.runs.get(run)
        if found is None:
            return None
        return await trio.to_thread.run_sync(_file_of, snapshot(found.trace), found.is_live)

    def turns(self, run: str) -> Row | None:
        found = self.runs.get(run)
        if found is None:
            return None
        return {"turns": found.turn_rows(), "services": found.services(), "agents": found.agents()}

    def messages(self, run: str, numbers: str) -> Row | None:
        """Return the messages of a run that have the given numbers; None if the run is unknown.

        `numbers` has the form `0-3,7`. Raise ValueError if it has any other form.
        """
        found = self.runs.get(run)
        if found is None:
            return None
        found.update()  # so that the messages of all turns have numbers
        wanted: list[int] = []
        for each in numbers.split(","):
            if (match := _NUMBERS.fullmatch(each.strip())) is None:
                raise ValueError(f"numbers must be a list such as 0-3,7, not {numbers[:BRIEF]!r}")
            first, last = int(match[1]), int(match[2] or match[1])
            if last - first + len(wanted) >= _MOST_MESSAGES:
                raise ValueError(f"numbers lists over {_MOST_MESSAGES} messages: request fewer at once")
            wanted += range(first, last + 1)
        known = found.messages.all
        return {"messages": {str(number): known[number] for number in wanted if number < len(known)}}

    def tools(self, run: str, number: int) -> Row | None:
        found = self.runs.get(run)
        if found is None or number >= len(found.tools):
            return None
        return {"tools": [members(each, _TOOL) for each in found.tools[number]]}

    async def compare(self, one: str, other: str) -> Row | None:
        """Compare two runs in a worker thread.

        Return their turns side by side; None if one of the runs does not exist.
        """
        a, b = self.runs.get(one), self.runs.get(other)
        if a is None or b is None:
            return None
        rows: Row = {"a": a.row(), "b": b.row()}
        turns = [*a.trace], [*b.trace]  # copied, because the traces may grow meanwhile
        return rows | {"pairs": await trio.to_thread.run_sync(compared, *turns, abandon_on_cancel=True)}

    async def search(self, text: str, run: str | None = None) -> Row:
        """Return the messages that contain `text`; case is ignored. Raise ValueError if `text` is too long."""
        if len(text) > MOST_QUERY:
            raise ValueError(f"q must be a text of at most {MOST_QUERY} characters, not {len(text):,}")
        step = max(len(text), _STEPS // len(text))
        pattern = re.compile(re.escape(text), re.IGNORECASE)
        hits: list[Json] = []
        due = trio.current_time() + _SLICE
        for each in [*self.runs.values()]:
            if run is not None and each.id != run:
                continue
            each.update()
            for number in range(len(each.messages.all)):
                if trio.current_time() > due:
                    await trio.lowlevel.checkpoint()
                    due = trio.current_time() + _SLICE
                message = each.messages.all[number]
                whole, match = text_of(message), None
                for at in range(0, len(whole), step):
                    if (match := pattern.search(whole, at, at + step + len(text) - 1)) is not None:
                        break
                    if trio.current_time() > due:
                        await trio.lowlevel.checkpoint()
                        due = trio.current_time() + _SLICE
                if match is None:
                    continue
                if len(hits) == _MOST_HITS:
                    return {"q": text, "hits": hits, "more": True}
                start = max(0, match.start() - _AROUND)
                hits.append(
                    {
                        "run": each.id,
                        "call": each.messages.first[number],
                        "message": number,
                        "role": message.role,
                        "excerpt": whole[start : match.end() + _AROUND],
                        "start": match.start() - start,
                        "end": match.end() - start,
                    }
                )
        return {"q": text, "hits": hits, "more": False}


def event_of(seq: int, name: str, data: Json) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, name.encode(), msgspec.json.encode(data))


def _file_of(trace: Trace, is_live: bool) -> bytes:
    notes = ["The rollout had not ended when this file was saved."] if is_live else [*map(str, trace.gaps)]
    source = Source(trace.rollout, notes)
    source.add(trace)
    return html_of(source.document(), source.title)
