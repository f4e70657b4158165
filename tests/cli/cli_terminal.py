"""A program on a terminal of its own, and the person who sits there."""

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

from cli_helpers import PATIENCE


class Terminal:
    """Runs `triocept`, or a shell, in the foreground of a session with this controlling terminal."""

    def __init__(self, *arguments: str, cwd: Path, shell: tuple[str, ...] = (), **environment: str) -> None:
        self.ours, self.theirs = pty.openpty()
        self.shown = ""
        """What has been printed since the last `expect`."""
        self.process = subprocess.Popen(
            shell or [sys.executable, "-m", "triocept", *arguments],
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24", **environment},
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def expect(self, text: str) -> str:
        """Wait until this text is printed; return what was printed up to it."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.ours], [], [], left)[0]:
                raise AssertionError(f"{text!r} was not printed; the screen has {self.shown!r}")
            self.shown += os.read(self.ours, 65536).decode()
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    @property
    def modes(self) -> list[object]:
        return termios.tcgetattr(self.theirs)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
