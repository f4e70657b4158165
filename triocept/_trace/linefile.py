"""A file to which whole lines are appended, by several programs at once.

Rules:

1. Lines that belong together are one `write` to a file opened for appending: the kernel puts them behind all that is
   there.
2. What is in the file stays there. A line that could be written only in part (a full disk) is not cut off again: by
   then another program may have appended behind it, and the cut would be through that one's line.
3. Who appends looks whether the file ends with a newline, and begins with one where it does not. So what is left of a
   line, by us or by a program that was killed, costs itself alone.
4. A file that is removed, renamed (log rotation), replaced or cut off is noticed before the next line, and what the
   path leads to then is written on. The program's log says so: what was written before is not in there.
5. A regular file only: a pipe that nobody reads would hold up the event loop, and a device gives nothing back.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger("triocept.trace")

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""Without blocking: what is no regular file may wait when it is opened, for a reader or a carrier."""
_HEAD = 256
"""Bytes of a line that tell it from any other: its run's and its rollout's ids are among them."""
_PATIENCE = 4
"""Looks at the end of a file that several programs write to. One too few costs an empty line."""
_process = os.getpid()
"""This one: asked for once, for the kernel has to be asked."""


def _forked() -> None:
    global _process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class LineFile:
    """A file of lines, opened when it is first needed. Every error of it names the path.

    Args:
        path: the file; it is made if it is not there, its directory is not.
        fsync: whether each line is forced to the disk.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self.fsync = fsync
        self.opening = 0
        """How many files the path has led to. Another number means that what was written before may not be in this."""
        self._name = os.fspath(path)
        self._fd: int | None = None
        self._pid = 0
        """The process that has opened it."""
        self._identity = (0, 0)
        self._least = 0
        """Bytes that it has at least."""
        self._size: int | None = None
        """Bytes that it had at the look before this line; None: nobody has looked."""
        self._last = (0, b"")
        """Where our last line begins, and with what: a file that was cut off and has grown again differs there."""
        self.whole_lines = 0
        """How many of the lines of the last `append` are in the file."""
        self.extent = (0, 0)
        """From where to where the last `append` has written: its lines are in there, and perhaps others'."""
        self._end: int | None = None
        """Where our last line ends, if nobody wrote meanwhile. As long as the file ends there it ends whole."""

    def open(self) -> int:
        """Open it, if it is not open; its descriptor.

        Raises:
            OSError: it cannot be written and read, or it is no regular file.
        """
        if self._pid != _process:  # a fork has the offset of the other program, too
            self.close()
        if self._fd is None:
            try:
                self._fd, self._pid = os.open(self.path, _FLAGS, 0o644), _process
                found = self._checked(self._fd)
                if not (self.opening and self._is_ours(found, self._fd)):
                    self._begin(found, self._fd)
            except BaseException as exc:
                self.close()
                if isinstance(exc, OSError):
                    exc.filename = str(self.path)
                raise
        return self._fd

    def look(self) -> int:
        """See whether the path leads to the file that is open, and open what is there if it does not; `opening`.

        It takes about 2 us.

        Raises:
            OSError: as of `open`.
        """
        if self._fd is None or self._pid != _process:
            self.open()
        elif not self._is_in_place(self._fd):
            log.warning(
                "%s was removed, renamed, replaced or cut off: what comes is written where the path leads now, "
                "and what was recorded before is not in there",
                self.path,
            )
            self.close()
            self.open()
        return self.opening

    def append(self, lines: bytes) -> None:
        """Append lines, each with its newline.

        Raises:
            OSError: they could not be written whole: `whole_lines` says how many were. What was written of the next one
                stays in the file, as a line that is none.
        """
        self.whole_lines = 0
        fd, begin = self.open(), None
        try:
            # The second try says why the first one was short, or puts what is left of it on a line of its own.
            for _ in range(2):
                done = self._write(fd, lines)
                begin = self._last[0] if begin is None else begin
                self.whole_lines += lines.count(b"\n", 0, done)
                if done == len(lines):
                    break
                lines = lines[done:]
            else:
                raise OSError(errno.EIO, "a line could be written only in part")
            if self.fsync:
                os.fsync(fd)
        except OSError as exc:
            exc.filename = str(self.path)
            raise
        finally:
            self.extent = (self._least if begin is None else begin, self._least)

    def close(self) -> None:
        """Close it. It opens itself again when it is needed."""
        fd, self._fd, self._end, self._size = self._fd, None, None, None
        if fd is not None:
            os.close(fd)

    def _write(self, fd: int, lines: bytes) -> int:
        """How many bytes of them are whole lines in the file. One that lacks its newline alone is: with that whoever
        comes next begins."""
        end, self._size = self._size, None
        if end is None:
            end = os.lseek(fd, 0, os.SEEK_END)
        data = lines if end == self._end or _ends_whole(fd) else b"\n" + lines
        written = os.write(fd, data)
        # Behind what others have appended since the look at the end.
        self._least = os.lseek(fd, 0, os.SEEK_CUR)
        self._last = (self._least - written, data[:_HEAD])
        if written == len(data):
            self._end = self._least
            return len(lines)
        self._end = None
        done = max(written - (len(data) - len(lines)), 0)
        return done + 1 if lines[done : done + 1] == b"\n" else lines.rfind(b"\n", 0, done) + 1

    def _is_in_place(self, fd: int) -> bool:
        try:
            return self._is_ours(os.stat(self._name), fd)
        except OSError:  # who opens it says what is the matter
            return False

    def _is_ours(self, found: os.stat_result, fd: int) -> bool:
        """Whether this is the file that we have written to, and our last line is in it."""
        if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._least:
            return False
        self._size = found.st_size
        if found.st_size == self._least:
            return True
        begin, head = self._last
        return os.pread(fd, len(head), begin) == head

    def _checked(self, fd: int) -> os.stat_result:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            raise OSError(errno.EINVAL, f"turns are recorded in a regular file, and this is {kind}")
        return found

    def _begin(self, found: os.stat_result, fd: int) -> None:
        """It is another file than before."""
        self.opening += 1
        self._identity, self._least, self._last = (found.st_dev, found.st_ino), found.st_size, (0, b"")
        if self.fsync and found.st_size == 0:  # it may be new, and then its name is only in the directory
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _ends_whole(fd: int) -> bool:
    """Whether the file ends with a whole line. That of another program which is in the middle of a write does not, for
    a moment: a write of nothing waits until the other one is through (Linux locks the file for each)."""
    for _ in range(_PATIENCE):
        size = os.lseek(fd, 0, os.SEEK_END)
        if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
            return True
        os.write(fd, b"")
    return False
