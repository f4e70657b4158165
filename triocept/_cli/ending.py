"""The end of a command: a status, an error in words, or a signal.

Rules:

1. The first signal cancels. The agent ends first, while its calls are still answered; then the trace is sealed and the
   endpoint closed.
2. A second signal works as a second Ctrl-C in any triocept program: the agent gets SIGKILL, and nothing waits any more.
   (A fleet's agents belong to its workers, which still have their grace period.) A third signal has its default effect,
   and the watcher ends the agent; this works even where something blocks the event loop.
3. A signal that was ignored at the start stays ignored: `nohup`, and SIGINT in the background job of a script.
4. The program then ends by this signal. So a shell reports 128 and its number, a loop in a shell ends at Ctrl-C,
   and a service manager records an orderly end.
5. A triocept error is a line or two; an error of the user's script shows the script's frames, and no inner frames.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import trio

from .._util.failures import leaves
from .._util.terminal import Screen, say
from ..errors import TrioceptError
from ..handlers.script import NotAReply, ShadowedRule

MOMENT = 1.0
"""Seconds after a signal until a notice is printed."""
_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)


def end_with(
    work: Callable[[], Awaitable[int]], *, script: Path | None = None, notice: str | None = None
) -> NoReturn:
    """Run `work`, then end the program: with its status, with 1 after an error, or by a signal.

    Args:
        work: the work; returns the status.
        script: the user's script, whose errors are shown with their place.
        notice: text to print if the end takes more than a moment after a signal.
    """
    heard: list[signal.Signals] = []
    signals = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    # With this handler installed, trio turns SIGINT into KeyboardInterrupt, which rule 2 relies on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        status = trio.run(_work, work, signals, heard, notice)
    except KeyboardInterrupt:  # before the watcher started, or the second
        heard.append(signal.SIGINT)
    except BaseException as exc:
        status = _tell(exc, script, interrupted=bool(heard))
    if heard:
        _die_of(heard[0])
    sys.exit(status)


async def _work(
    work: Callable[[], Awaitable[int]],
    signals: list[signal.Signals],
    heard: list[signal.Signals],
    notice: str | None,
) -> int:
    status, error = 0, None
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        def hear() -> None:
            scope.cancel()
            if notice is not None:
                nursery.start_soon(_remind, notice)

        await nursery.start(_listen, signals, heard, hear)
        try:
            with scope:
                status = await work()
        except BaseException as exc:
            error = exc  # raised outside the nursery, which would wrap it
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    return status


@trio.lowlevel.enable_ki_protection  # so that the interrupt below goes to the main task
async def _listen(
    signals: list[signal.Signals],
    heard: list[signal.Signals],
    hear: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    if signal.SIGINT not in signals:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with trio.open_signal_receiver(*signals) as received:
        _heed_third(signals)
        task_status.started()
        async for number in received:
            heard.append(signal.Signals(number))
            if len(heard) == 2:
                break
            hear()
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt)
    signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL if signal.SIGINT in signals else signal.SIG_IGN)


def _heed_third(signals: list[signal.Signals]) -> None:
    """Give the third signal its default effect without the event loop, which a script's function may block."""
    came = 0
    receivers = {number: signal.getsignal(number) for number in signals}

    def count(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came >= 3:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        receiver = receivers[signal.Signals(number)]
        assert callable(receiver)
        receiver(number, frame)

    for number in signals:
        signal.signal(number, count)  # the receiver restores the previous handler when it ends


@trio.lowlevel.enable_ki_protection
async def _remind(notice: str) -> None:
    await trio.sleep(MOMENT)
    Screen().write(f"▸ {notice}\n")


def _die_of(number: signal.Signals) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, or full: its reader has gone
            pass
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # the first process of a container does not die of its own signal


def _tell(exc: BaseException, script: Path | None, *, interrupted: bool) -> int:
    """Print the error and return the exit status."""
    status = 1
    for error in leaves(exc):
        if isinstance(error, SystemExit):  # raised by a script
            status = _status(error)
        elif not (interrupted and isinstance(error, KeyboardInterrupt | trio.Cancelled)):
            say(describe_error(error, script))
    return status


def _status(exit_: SystemExit) -> int:
    """Return the status as Python does: a number is the status, None is 0, anything else is printed, and is 1."""
    if exit_.code is None or isinstance(exit_.code, int):
        return exit_.code or 0
    say(str(exit_.code))
    return 1


def describe_error(error: BaseException, script: Path | None = None) -> str:
    """Describe an error for a person: triocept's in words, a script's with its place, any other with its type."""
    if isinstance(error, click.ClickException):
        return f"Error: {error.format_message()}"
    if script is not None and isinstance(error, NotAReply | ShadowedRule):
        return f"Error: {script}: {error}"
    if isinstance(error, TrioceptError | OSError) and not _is_of(error, script):
        return f"Error: {_words(error)}"
    told = traceback.TracebackException.from_exception(error)
    if script is not None and (_is_of(error, script) or isinstance(error, SyntaxError)):
        _shorten(told, script)
        return f"Error: the script {script} failed:\n" + "".join(told.format()).rstrip()
    return "".join(told.format()).rstrip()


def _words(error: Exception) -> str:
    """Return the error's text without the system's error number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return in_options(str(error))


_AS_OPTIONS = (
    (r"match='nearest' goes by", "--match nearest goes by"),
    (r"then=handler \(on the command line --script or --upstream\)", "--script or --upstream"),
    (r"another id, or the map a `key=`, which alone then counts", "another id"),
    (r"the timeout of its map, ([\d.e+-]+) s", r"--rollout-timeout \1"),
    (r"name it \(reward=\)", "name it (--reward)"),
)
"""Advice of errors that names arguments of Python, and the same advice with options of the command line."""


def in_options(text: str) -> str:
    """Return an error's text with options of the command line in place of arguments of Python."""
    for pattern, words in _AS_OPTIONS:
        text = re.sub(pattern, words, text)
    return text


def _shorten(told: traceback.TracebackException, script: Path) -> None:
    """Keep only the script's frames, and the frames of its callees."""
    names = [frame.filename for frame in told.stack]
    first = names.index(str(script)) if str(script) in names else len(names)
    told.stack = traceback.StackSummary.from_list(told.stack[first:])
    if not told.stack:
        told.stack = None  # type: ignore[assignment]  # the documented value for no traceback
    told.__context__ = _theirs(told.__context__, script)
    told.__cause__ = _theirs(told.__cause__, script)


def _theirs(told: traceback.TracebackException | None, script: Path) -> traceback.TracebackException | None:
    if told is None or all(frame.filename != str(script) for frame in told.stack):
        return None
    _shorten(told, script)
    return told


def _is_of(error: BaseException, script: Path | None) -> bool:
    """Return True if the error was raised in the script, or in a function that the script called."""
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(script):
            return True
        frame = frame.tb_next
    return False
