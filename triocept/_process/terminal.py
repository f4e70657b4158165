"""Give this program's terminal to an agent, in the same way as a shell gives its terminal to a foreground job.

Rules:

1. The agent's group is the terminal's foreground group. Ctrl-C, other keys and changes of the window's size therefore
   reach the agent, not this program.
2. When the agent is suspended (Ctrl-Z), this program takes the terminal back and suspends itself, so that the user's
   shell continues. When the shell continues this program, the agent gets the terminal back, with the terminal modes
   that the agent had set.
3. When the agent has ended, the terminal gets the modes that it had before the agent's start. If the agent's return
   code is not 0, typed input is also discarded, and the modes that full-screen programs set are reset.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

import trio

with contextlib.suppress(ImportError):  # Windows
    import termios

FD = 0
"""File descriptor of the terminal, which is the file descriptor of standard input."""
STOP_TIME = 0.1
"""Seconds to wait after this program has sent itself a signal that suspends it.

The kernel may suspend the program a little later.
"""
_PLAIN_MODES = (
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l"  # no reports of mouse and focus
    "\x1b[?2004l\x1b[?1l\x1b>\x1b[<u"  # paste without brackets, usual keys
    "\x1b[?1047l\x1b[?25h\x1b[0m\r\n\x1b[J"  # main screen, visible cursor, no colours, nothing below
)


def terminal_problem() -> str | None:
    """Return the reason why this program cannot give its terminal to an agent; None if there is no such reason."""
    if threading.current_thread() is not threading.main_thread():
        return "this is not the main thread"
    if os.name != "posix" or not (os.isatty(FD) and os.isatty(1)):
        return "standard input and standard output are not both a terminal"
    try:
        group = os.tcgetpgrp(FD)
    except OSError:
        return "standard input is not the terminal of this session"
    return None if group == os.getpgrp() else "this program runs in the background of its terminal"


class Terminal:
    """The terminal of this program. The constructor raises ValueError if the program cannot give it to an agent."""

    def __init__(self) -> None:
        if (problem := terminal_problem()) is not None:
            raise ValueError(f'output="terminal" cannot give the agent the terminal: {problem}')
        self._modes = termios.tcgetattr(FD)
        self._group = os.getpgrp()
        self._given = False
        """True while the agent has the terminal. False while the agent is suspended, because the shell may have the
        terminal at that time.
        """

    async def follow(self, pid: int) -> None:
        """Give the terminal to the process group of `pid` until that process ends.

        While the process group is suspended, this program is suspended, too.
        """
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            self._give(pid)
            while True:
                match _stop_signal(pid):
                    case None:
                        await signals.__anext__()
                    case 0:
                        return
                    case signal.SIGTTIN | signal.SIGTTOU:  # it was faster than the first `_give`
                        self._give(pid)
                    case _:
                        await self._suspend(pid)

    def close(self, returncode: int | None) -> None:
        """Take the terminal back from the agent. `returncode` is the agent's return code; None if it did not start."""
        if not self._given:
            return
        with _in_background(), contextlib.suppress(OSError, termios.error):  # the terminal is closed
            os.tcsetpgrp(FD, self._group)
            termios.tcsetattr(FD, termios.TCSANOW, self._modes)
            if returncode:
                termios.tcflush(FD, termios.TCIFLUSH)
                if os.environ.get("TERM", "dumb") != "dumb" and select.select([], [1], [], 0)[1]:
                    os.write(1, _PLAIN_MODES.encode())

    def _give(self, pid: int) -> None:
        with _in_background(), contextlib.suppress(OSError):  # the agent has ended
            self._given = True
            os.tcsetpgrp(FD, pid)
            os.killpg(pid, signal.SIGCONT)

    async def _suspend(self, pid: int) -> None:
        modes = self._modes
        with _in_background(), contextlib.suppress(OSError, termios.error):
            modes = termios.tcgetattr(FD)
            os.tcsetpgrp(FD, self._group)
            termios.tcsetattr(FD, termios.TCSANOW, self._modes)
        self._given = False
        number = signal.SIGTSTP
        while True:
            os.killpg(
                self._group, number
            )  # without a shell, the kernel ignores it, and the agent continues at once
            await trio.sleep(STOP_TIME)
            if self._is_in_foreground():
                break
            await trio.sleep(STOP_TIME)  # for a signal that ends this program
            if not _stop_signal(pid):
                return
            number = signal.SIGTTIN  # as a shell expects of a program that was continued in the background
        with _in_background(), contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(FD, termios.TCSANOW, modes)
        self._give(pid)

    def _is_in_foreground(self) -> bool:
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(FD) == self._group
        return False


def _stop_signal(pid: int) -> int | None:
    """Return the signal that suspended a process; 0 if the process has ended; None if it runs."""
    try:
        state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return None if state is None else state.si_status if state.si_code == os.CLD_STOPPED else 0


@contextlib.contextmanager
def _in_background() -> Iterator[None]:
    """Block the signal SIGTTOU during the `with` block.

    The kernel sends this signal to a background program that changes its terminal, and the signal suspends the program.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
