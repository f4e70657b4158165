"""Cassettes, opened: in trio, and in programs that are not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypedDict, Unpack

import trio

from ..._rollout.handler import Handler
from ..play import Timing
from .cassette import Cassette, RecordMode
from .hooks import Normalise, NormaliseText


class CassetteOptions(TypedDict, total=False):
    """What `open_cassette` and `use_cassette` take."""

    record: RecordMode
    upstream: Handler | None
    normalise: Normalise | None
    normalise_text: NormaliseText | None
    timing: Timing
    compare_model: bool
    compare_sampling: bool
    repeats: bool
    record_auth_errors: bool


@asynccontextmanager
async def open_cassette(
    path: str | os.PathLike[str], **options: Unpack[CassetteOptions]
) -> AsyncIterator[Cassette]:
    """A handler that answers as a real model did: `async with open_cassette("run.yaml") as cassette`.

    Args:
        path: its file, a YAML file that people can read.
        record: `none`, which is so unless said otherwise, answers from the file, and a call that is not there is an
            error; `once` records if there is no file, else it is `none`; `new` answers from the file and records what
            is not there; `rewrite` records all anew.
        upstream: whatever answers what is to be recorded: a real model that is open, `forward_to(…)`, any handler.
        normalise: a function of a `Request` that gives one without what differs from run to run. It gets what is
            compared, in no dialect's words, of the calls of this run and of those in the file.
        normalise_text: likewise, a function of each text in it; `normalize(tmp_path)` gives one.
        timing: `none` answers at once, `recorded` takes the time that it took, a number so many times that.
        compare_model: whether the model's name counts (the date of its version never does).
        compare_sampling: whether temperature, token limits, effort and so on count.
        repeats: whether the last one of calls that ask the same answers again and again.
        record_auth_errors: whether a refusal of the key (401, 403, Google's 400) is recorded as any other error is. If
            not, it is one of yours, and nothing is written.

    Closing: where the block ends well, what was recorded is written, whole and at once. Left by an exception, or
    cancelled, it leaves the file as it was.

    Raises:
        ReplayMiss: from the exchange whose call is not recorded. The agent gets a 500.
        RecordingFailed: from the exchange whose answer no cassette keeps: a refusal of the key, raw bytes.
        DialectError: the file is no cassette; the text says on which line.
        OSError: it cannot be read, or written.
        TypeError, ValueError: an argument is not what it should be.
    """
    await trio.lowlevel.checkpoint()
    with use_cassette(path, **options) as cassette:
        yield cassette


@contextmanager
def use_cassette(path: str | os.PathLike[str], **options: Unpack[CassetteOptions]) -> Iterator[Cassette]:
    """As `open_cassette`, in a program that does not run in trio: `with use_cassette("run.yaml") as cassette`, and
    `fake_model(handler=cassette)` within it.

    An upstream is open in trio alone: `upstream=forward_to("https://…", dialect=…)` opens one for each call.
    """
    cassette = Cassette(path, **options)
    yield cassette
    cassette.write()
