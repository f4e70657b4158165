"""End a command with an exit status, with an error text, or by a signal.

Rules:

1. The first signal cancels the command. The agent is ended first, while its calls are still answered; then the trace is
   sealed and the endpoint closed.
2. A second signal has the effect of a second Ctrl-C in any triocept program: the agent gets SIGKILL, and the command
   waits for nothing. The agents of a fleet are processes of the fleet's workers, so they still get the grace period of
   the workers. A third signal has its default effect, which is to end the command at once, even if a function blocks
   the event loop. A separate process (the watcher) then ends the agent.
3. A signal that was ignored when the command started stays ignored: under `nohup`, and SIGINT in a background job of a
   shell script.
4. After the cleanup, the program ends itself with the first signal. A shell therefore reports 128 plus the signal's
   number, a loop in a shell ends at Ctrl-C, and a service manager records an orderly end.
5. A triocept error is printed as one or two lines of text. An error in the user's script is printed with the script's
   frames of the traceback, and without triocept's frames.
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
from .._util.garbage import tune_gc
from .._util.terminal import Screen, say
from ..errors import TrioceptError
from ..handlers.script import NotAReply, ShadowedRule

MOMENT = 1.0
"""Seconds after the first signal until the command prints the notice that it is ending."""
_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)


def end_with(
    work: Callable[[], Awaitable[int]], *, script: Path | None = None, notice: str | None = None
) -> NoReturn:
    """Run `work`, then end the program: with the status that `work` returns, with 1 after an error, or by a signal.

    Errors in the file `script` are printed with their line. `notice` is printed if the program has not ended `MOMENT`
    seconds after the first signal.
    """
    received: list[signal.Signals] = []
    signals = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    # With this handler installed, trio turns SIGINT into KeyboardInterrupt, which rule 2 relies on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tune_gc()
    status = 1
    try:
        status = trio.run(_work, work, signals, received, notice)
    except KeyboardInterrupt:  # the first before the watcher has started, or the second
        received.append(signal.SIGINT)
    except BaseException as exc:
        for error in leaves(exc):
            if isinstance(error, SystemExit):  # raised by a script
                if (code := error.code) is not None and not isinstance(code, int):
                    say(str(code))
                    code = 1
                status = code or 0
            elif not (received and isinstance(error, KeyboardInterrupt | trio.Cancelled)):
                say(describe_error(error, script))
                status = error.exit_code if isinstance(error, click.ClickException) else 1
    if not received:
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the stream is closed, or its reader has ended
            pass
    signal.signal(received[0], signal.SIG_DFL)
    signal.raise_signal(received[0])
    os._exit(128 + received[0])  # the first process of a container does not die of its own signal


async def _work(
    work: Callable[[], Awaitable[int]],
    signals: list[signal.Signals],
    received: list[signal.Signals],
    notice: str | None,
) -> int:
    status, error = 0, None
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        @trio.lowlevel.enable_ki_protection
        async def remind(text: str) -> None:
            await trio.sleep(MOMENT)
            Screen().write(f"▸ {text}\n")

        def on_first() -> None:
            scope.cancel()
            if notice is not None:
                nursery.start_soon(remind, notice)

        await nursery.start(_receive, signals, received, on_first)
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
async def _receive(
    signals: list[signal.Signals],
    received: list[signal.Signals],
    on_first: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    if signal.SIGINT not in signals:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with trio.open_signal_receiver(*signals) as receiver:
        _default_for_third(signals)
        task_status.started()
        async for number in receiver:
            received.append(signal.Signals(number))
            if len(received) == 2:
                break
            on_first()
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt)
    signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL if signal.SIGINT in signals else signal.SIG_IGN)


def _default_for_third(signals: list[signal.Signals]) -> None:
    """Install signal handlers that give the third signal its default effect, also while a script blocks the loop."""
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


def describe_error(error: BaseException, script: Path | None = None) -> str:
    """Return the text that the command prints about an error.

    The text about an error of triocept is its message. The text about an error in the script contains the script's
    line. The text about any other error begins with its type.
    """
    if isinstance(error, click.ClickException):
        return f"Error: {error.format_message()}"
    if script is not None and isinstance(error, NotAReply | ShadowedRule):
        return f"Error: {script}: {error}"
    frames = traceback.walk_tb(error.__traceback__)
    is_of_script = any(frame.f_code.co_filename == str(script) for frame, _ in frames)
    if isinstance(error, TrioceptError | OSError | EOFError) and not is_of_script:
        text = str(error)
        if isinstance(error, OSError) and error.strerror:  # without the system's error number
            text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        return f"Error: {in_options(text)}"
    report = traceback.TracebackException.from_exception(error)
    head = ""
    if script is not None and (is_of_script or isinstance(error, SyntaxError)):
        _shorten(report, script)
        head = f"Error: the script {script} failed:\n"
    return head + "".join(report.format()).rstrip()


_AS_OPTIONS = (
    (
        r"(a Python script must define a list named 'replies'; this file defines no such list)",
        r"\1. If the file is an agent, write it after --, as in: triocept run -- python FILE.py",
    ),
    (r"match='nearest' uses", "--match nearest uses"),
    (r"then=handler \(on the command line --script or --upstream\)", "--script or --upstream"),
    (r", or call fleet\.map with key=…, which compares the keys of tasks, and not the tasks themselves", ""),
    (r"the timeout of its map, ([\d.e+-]+) s", r"--rollout-timeout \1"),
    (r"; pass an address of this machine, .+", "; choose another --host"),
    (r"; pass another port, or port=0 for a free port", "; choose another --host or --port"),
    (r"name the score that is the reward \(reward=\)", "name the score that is the reward (--reward)"),
    (r"an upstream's base_url", "a base URL"),
    (r"pass the final address as base_url", "give the final address with --upstream"),
    (
        r"Limits\.prices contains only (.+) \('\*' stands for any model\)",
        r"--price and --prices name only \1: add --price MODEL=INPUT,OUTPUT",
    ),
    (r"pass a key as api_key", "put the key into a variable, and name the variable with --api-key-env"),
)
"""Replacements in error texts. Each pattern matches a text that names an argument of a Python function; its replacement
names the command-line option."""


def in_options(text: str) -> str:
    """Return the text of an error, with names of command-line options in place of arguments of Python functions."""
    for pattern, words in _AS_OPTIONS:
        text = re.sub(pattern, words, text)
    return text


def _shorten(report: traceback.TracebackException, script: Path) -> None:
    """Remove the frames and causes that do not concern the script from a traceback.

    Keep the script's frames, the frames of functions that the script called, and the causes that were raised in the
    script.
    """
    names = [frame.filename for frame in report.stack]
    first = names.index(str(script)) if str(script) in names else len(names)
    report.stack = traceback.StackSummary.from_list(report.stack[first:])
    if not report.stack:
        report.stack = None  # type: ignore[assignment]  # the documented value for no traceback
    for name in ("__context__", "__cause__"):
        if (inner := getattr(report, name)) is not None:
            if all(frame.filename != str(script) for frame in inner.stack):
                setattr(report, name, None)
            else:
                _shorten(inner, script)
