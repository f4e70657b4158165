"""Open cassettes: in trio, and in other programs."""

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
    """Options of `open_cassette` and `use_cassette`."""

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
    """Open a handler that answers as a real model did: `async with open_cassette("run.yaml") as cassette`.

    Args:
        path: the cassette's file, in readable YAML.
        record: `none` (default): answer from the file; a call that it lacks is an error. `once`: record if there is no
            file, else as `none`. `new`: answer from the file, and record calls that it lacks. `rewrite`: record all
            calls anew.
        upstream: the handler for calls to record: an open real model, `forward_to(…)`, or any handler.
        normalise: a function that returns a `Request` without its parts that differ from run to run. It gets the
            dialect-neutral requests that are compared, of this run and of the file.
        normalise_text: a function that changes each text in these requests; `normalize(tmp_path)` returns one.
        timing: `none`: answer at once; `recorded`: take the recorded time; a number: multiply the recorded time by it.
        compare_model: True: the model's name counts (the date of its version never does).
        compare_sampling: True: temperature, token limits, effort and similar settings count.
        repeats: True: the last of several equal calls answers any number of times.
        record_auth_errors: True: a refusal of the key (401, 403, Google's 400) is recorded as any other error. False:
            it is taken as a mistake in the setup, and nothing is written.

    Closing: a block that ends normally writes the recorded calls, all at once. A block that an exception or a
    cancellation ends leaves the file unchanged.

    Raises:
        ReplayMiss: from an exchange whose call is not recorded. The agent gets a 500.
        RecordingFailed: from an exchange with an outcome that no cassette keeps: a refusal of the key, raw bytes.
        DialectError: the file is not a cassette; the text names the line.
        OSError: the file cannot be read, or written.
        TypeError, ValueError: an argument is invalid.
    """
    await trio.lowlevel.checkpoint()
    with use_cassette(path, **options) as cassette:
        yield cassette


@contextmanager
def use_cassette(path: str | os.PathLike[str], **options: Unpack[CassetteOptions]) -> Iterator[Cassette]:
    """Open a cassette in a program that does not run in trio: `with use_cassette("run.yaml") as cassette`.

    Use `fake_model(handler=cassette)` within the block. Options are those of `open_cassette`. An upstream is open only
    in trio: `upstream=forward_to("https://…", dialect=…)` opens one for each call.
    """
    cassette = Cassette(path, **options)
    yield cassette
    cassette.write()
