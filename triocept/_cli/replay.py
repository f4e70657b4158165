"""`--replay` and `--record-once`: a recorded run answers the agent's calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

import click

from .._rollout.workers import Handler
from .._trace.reader import read_traces
from .._trace.trace import Trace
from ..handlers import Match, Replay, TurnName
from .options import Choice, F, NewFile, Option, add_options, existing_file
from .script import Answers, Model, Script
from .words import flaw


@dataclass(frozen=True)
class ReplayFile:
    """The recorded run that `--replay` or `--record-once` names."""

    path: Path
    rollout: str | None = None
    until: TurnName | None = None
    then: Model | None = None
    match: Match = "strict"
    once: bool = False
    """True for the file of `--record-once`. A call that this file does not contain is then refused, and no other
    handler answers it.
    """

    @property
    def variables(self) -> tuple[str, ...]:
        return self.then.variables if self.then is not None else ()

    @property
    def what(self) -> str:
        turn = ":".join(map(str, self.until)) if isinstance(self.until, tuple) else self.until
        until = "" if turn is None else f", the turns before {turn}"
        missing = f"; the recorded run is {what}" if (what := flaw(self._trace)) else ""
        return f"{self.path}{until}{missing}"

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """Open a handler that gives the answers of the recorded run.

        Raises:
            click.ClickException: the file does not contain the rollout, or contains several rollouts. Or the rollout
                does not contain the turn of `--until`.
            OSError, DialectError: the file cannot be read.
        """
        async with AsyncExitStack() as stack:
            then: Handler | None = None
            if self.then is not None:
                answers = await stack.enter_async_context(self.then.open(say))
                then = answers.model
                if isinstance(self.then, Script) and answers.embeddings is not None:
                    say(f"{self.then.path} contains embeddings, which are not served with --replay")
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
        if not traces and self.rollout is None:
            raise click.ClickException(
                f"{self.path} holds no rollout: record a run with --record {self.path}"
            )
        if not traces:
            raise click.ClickException(
                f"{self.path} contains no rollout {self.rollout!r}; to list its rollouts, run triocept show {self.path}"
            )
        if len(traces) > 1:
            names = ", ".join(trace.rollout if self.rollout is None else trace.run for trace in traces)
            raise click.ClickException(
                f"{self.path} holds {len(traces)} rollouts ({names}): choose one with --rollout ID"
            )
        return traces[0]


_in_replay = partial(click.option, cls=Option, group="Recorded run")
replay_options: Callable[[F], F] = add_options(
    existing_file(
        "--replay",
        "Recorded run",
        "Answer each call with the recorded answer in this file. A model (--script, --handler or --upstream) answers "
        "the calls that have no recorded turn.",
    ),
    _in_replay(
        "--rollout",
        metavar="ID",
        help="Id of the rollout to replay, or id of its run. Needed if the file contains several rollouts.",
    ),
    _in_replay(
        "--until",
        metavar="TURN",
        help="First turn that the model answers; the turns before it are replayed. TURN is the turn's number in the "
        "main conversation, its id, or CONVERSATION:NUMBER, for example 'sub-agent 1:0'; `triocept show` prints the "
        "names of conversations.",
    ),
    _in_replay(
        "--match",
        type=Choice(get_args(Match)),
        metavar="NAME",
        help="How to answer a call that has no recorded turn. strict (the default): with an error. nearest: with the "
        "answer of the recorded turn whose request has the longest common beginning with the call's request.",
    ),
    _in_replay(
        "--record-once",
        type=NewFile(),
        metavar="FILE",
        help="Replay this file if it exists; otherwise record the run in this file.",
    ),
)


def replay_of(options: dict[str, Any]) -> ReplayFile | None:
    """Return the recorded run that `options` describe, and remove its options from `options`.

    If the file of `--record-once` does not exist, set the option `keep_as` to its path, and the option `record` to a
    temporary file in the same directory. Return None in this case.
    """
    replay, once, until, rollout, match = (
        options.pop(name) for name in ("replay", "record_once", "until", "rollout", "match")
    )
    record: Path | None = options["record"]
    if once is not None and (replay, record, until) != (None, None, None):
        raise click.UsageError("--record-once excludes --replay, --until and --record: omit these options")
    path = once if once is not None and once.exists() else replay
    if path is None and (until, rollout) != (None, None):
        raise click.UsageError("--rollout and --until need --replay FILE")
    if match is not None and (replay, once) == (None, None):
        raise click.UsageError("--match needs --replay FILE or --record-once FILE")
    if replay is not None and record is not None and record.exists() and record.samefile(replay):
        raise click.UsageError("--record and --replay name the same file: name another file with --record")
    if path is not None:
        name: TurnName | None = until
        conversation, colon, number = (until or "").rpartition(":")
        if number.removeprefix("-").isdecimal():
            name = (conversation, int(number)) if colon and conversation != "main" else int(number)
        return ReplayFile(path, rollout, name, match=match or "strict", once=once is not None)
    if once is not None:
        options.update(keep_as=once, record=once.with_name(once.name + ".part"))
    return None
