"""`--replay` and `--record-once`: a recorded run behind the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from .._rollout.workers import Handler
from .._trace.reader import read_traces
from .._trace.trace import Trace
from ..handlers import Match, Replay, TurnName
from .forward import Forward
from .script import Answers, Script
from .words import flaw

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ReplayFile:
    """A recorded run, as the options describe it."""

    path: Path
    rollout: str | None = None
    until: TurnName | None = None
    then: Forward | Script | None = None
    match: Match = "strict"
    once: bool = False
    """True for a run that was recorded once, without a handler behind it."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables to hide from the agent; see `Forward`."""
        return self.then.variables if self.then is not None else ()

    @property
    def what(self) -> str:
        """Description of the file and of the replayed part."""
        turn = ":".join(map(str, self.until)) if isinstance(self.until, tuple) else self.until
        until = "" if turn is None else f", until turn {turn}"
        missing = f"; it is {what}" if (what := flaw(self._trace)) else ""
        return f"{self.path}{until}{missing}"

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """Open a handler that answers as the recorded run did.

        Raises:
            click.ClickException: the file has no such rollout, or several; or the rollout has no such turn.
            OSError, DialectError: the file cannot be read.
        """
        async with AsyncExitStack() as stack:
            then: Handler | None = None
            if self.then is not None:
                answers = await stack.enter_async_context(self.then.open(say))
                then = answers.model
                if isinstance(self.then, Script) and answers.embeddings is not None:
                    say(f"{self.then.path} has embeddings: they are not given beside --replay")
            try:
                replay = Replay(self._trace, match=self.match, until=self.until, then=then)
            except LookupError as exc:
                raise click.ClickException(f"--until: {exc}") from exc
            yield Answers(replay)

    @cached_property
    def _trace(self) -> Trace:
        traces = read_traces(self.path)
        if self.rollout is not None:
            traces = [trace for trace in traces if self.rollout in (trace.rollout, trace.run)]
        if not traces:
            what = "no rollout" if self.rollout is None else f"no rollout {self.rollout!r}"
            raise click.ClickException(f"{self.path} holds {what}")
        if len(traces) > 1:
            names = ", ".join(trace.rollout if self.rollout is None else trace.run for trace in traces)
            raise click.ClickException(
                f"{self.path} holds {len(traces)} rollouts; --rollout says which: {names}"
            )
        return traces[0]


_OPTIONS = (
    click.option(
        "--replay",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Answer as this recorded run did; with --script or --upstream, let that answer what it does not have.",
    ),
    click.option("--rollout", metavar="ID", help="Which run of the file, where it holds several."),
    click.option(
        "--until",
        metavar="TURN",
        help="The turn from which on --script or --upstream answers: its number in the main conversation, its id, or "
        "CONVERSATION:NUMBER, with the names of `triocept show` (sub-agent 1:0).",
    ),
    click.option(
        "--match",
        type=click.Choice(get_args(Match)),
        help="What answers a call that the record does not have: nothing (strict), or the recorded turn that begins "
        "most alike (nearest).",
    ),
    click.option(
        "--record-once",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Replay this file if it is there; if it is not, record the run in it.",
    ),
)


def replay_options(command: F) -> F:
    """Add the replay options; the command gets `replay`, and `keep_as`: a file that does not exist yet."""

    @wraps(command)
    def with_replay(
        *,
        replay: Path | None,
        rollout: str | None,
        until: str | None,
        match: Match | None,
        record_once: Path | None,
        record: Path | None,
        **others: Any,
    ) -> Any:
        if record_once is not None and (replay is not None or record is not None or until is not None):
            raise click.UsageError(
                "--record-once records or replays by itself: no --replay, --until or --record"
            )
        path = replay or (record_once if record_once is not None and record_once.exists() else None)
        if path is None and (until is not None or rollout is not None):
            raise click.UsageError("--rollout and --until say what to --replay")
        if match is not None and replay is None and record_once is None:
            raise click.UsageError("--match says how to --replay")
        if replay is not None and record is not None and record.exists() and record.samefile(replay):
            raise click.UsageError(
                "--record would add this run to the record that it replays: name another file"
            )
        given = None
        if path is not None:
            turn, once = None if until is None else _turn(until), record_once is not None
            given = ReplayFile(path, rollout, turn, match=match or "strict", once=once)
        keep_as = record_once if path is None else None
        if keep_as is not None:
            record = keep_as.with_name(keep_as.name + ".part")
        return command(replay=given, keep_as=keep_as, record=record, **others)

    made: Any = with_replay
    for option in reversed(_OPTIONS):
        made = option(made)
    return made  # type: ignore[no-any-return]


def _turn(text: str) -> TurnName:
    conversation, colon, number = text.rpartition(":")
    if not number.removeprefix("-").isdecimal():
        return text
    return (conversation, int(number)) if colon and conversation != "main" else int(number)
