"""Append whole lines to a file to which other programs append lines, too.

Rules:

1. Lines that belong together are written by one `write` to a file opened for appending, so the kernel puts them after
   all existing content.
2. Content of the file is never removed. If a line was written only in part (because the disk is full), the part is not
   removed: another program may have appended a line after this part, and the removal would damage that line.
3. Before appending, a program checks that the file ends with a newline; otherwise it writes a newline first. So an
   incomplete line, of this program or of a killed program, damages no other line.
4. If the file is removed, renamed (log rotation), replaced or truncated, the next write goes to the file that is now at
   the path. A warning in the program's log reports that this file does not contain the earlier lines.
5. Only a regular file is accepted: a pipe without a reader would block the event loop, and data written to a device
   cannot be read back.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from .._util.disk import sync

log = logging.getLogger("triocept.trace")

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""The file is opened non-blocking. A blocking `open` would wait: for a reader if the file is a pipe, and for a carrier
if it is a serial device.
"""
_HEAD = 256
"""Number of bytes, from the start of the last written block, that stay in memory. These bytes contain the ids of the
rollout and its run, so they identify the file."""
_PATIENCE = 4
"""Maximum checks for a newline at the end of a file to which other programs write. If no check finds a newline, this
program writes a newline, which may result in an empty line."""
_process = os.getpid()
"""Id of this process, by which a forked process is noticed. The id is cached, because `os.getpid` is a system call."""


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
    """A file of lines, opened on first use. Each OSError that it raises names the path.

    Args:
        path: the file; created if it does not exist; its directory must exist.
        fsync: True forces each line to the disk.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self.fsync = fsync
        self.opening = 0
        """Number of different files opened at the path so far. When this number increases, a new file was opened, which
        may lack earlier lines."""
        self._name = os.fspath(path)
        self._fd: int | None = None
        self._pid = 0
        """Id of the process that opened the file."""
        self._identity = (0, 0)
        self._least = 0
        """Size of the file in bytes after this object's last write. A smaller file was truncated."""
        self._size: int | None = None
        """Size of the file in bytes, if the size was checked after the last write; otherwise None."""
        self._last = (0, b"")
        """Offset and first bytes of the block that this object wrote last. If the file does not contain these bytes at
        this offset any more, it was truncated and has grown again."""
        self.whole_lines = 0
        """Number of complete lines that the last `append` wrote before it raised an OSError."""
        self.extent = (0, 0)
        """Start and end of the lines of the last `append`, in bytes. Lines of other programs may be in this range,
        too."""
        self._end: int | None = None
        """Offset after this object's last complete write; None if unknown. If the file still ends at this offset, its
        last line is complete."""

    def open(self) -> int:
        """Open the file, if the file is not open, and return its descriptor.

        Raises:
            OSError: the file cannot be written and read, or it is no regular file.
        """
        if self._pid != _process:  # a fork shares the file offset with the other process, too
            self.close()
        if self._fd is None:
            try:
                self._fd, self._pid = os.open(self.path, _FLAGS, 0o644), _process
                found = os.fstat(self._fd)
                if not stat.S_ISREG(found.st_mode):
                    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "another kind of file")
                    raise OSError(errno.EINVAL, f"recording needs a regular file, not {kind}")
                if not (self.opening and self._is_ours(found, self._fd)):
                    self._begin(found, self._fd)
            except BaseException as exc:
                self.close()
                if isinstance(exc, OSError):
                    exc.filename = str(self.path)
                raise
        return self._fd

    def look(self) -> int:
        """Reopen the file if another file, or none, is now at the path. Return `opening`, the number of opened files.

        The check takes about 2 us.

        Raises:
            OSError: as for `open`.
        """
        if self._fd is None or self._pid != _process:
            self.open()
            return self.opening
        try:
            in_place = self._is_ours(os.stat(self._name), self._fd)
        except OSError:  # opening the file raises the actual error
            in_place = False
        if not in_place:
            log.warning(
                "%s was removed, renamed, replaced or truncated: new lines go to the file that is now at this path, "
                "which does not contain the earlier lines",
                self.path,
            )
            self.close()
            self.open()
        return self.opening

    def append(self, lines: bytes) -> None:
        """Append `lines`, of which each ends with a newline already.

        Raises:
            OSError: not all lines could be written. `whole_lines` is the number of lines that were written. The file
                may also contain a part of the next line, as an unreadable line.
        """
        self.whole_lines, self.extent = 0, (self._least, self._least)
        fd, done = self.open(), 0
        try:
            done = self._write(fd, lines)
            begin = self._last[0]
            self.extent = (begin, self._least)
            if done < len(lines):
                # The second attempt raises the error that cut the first write, or writes the rest as a line of its own.
                done += self._write(fd, lines[done:])
                self.extent = (begin, self._least)
                if done < len(lines):
                    raise OSError(errno.EIO, "only a part of a line could be written")
            if self.fsync:
                os.fsync(fd)
        except OSError as exc:
            self.whole_lines = lines.count(b"\n", 0, done)
            exc.filename = str(self.path)
            raise

    def close(self) -> None:
        """Close the file. A method that needs the file opens it again."""
        fd, self._fd, self._end, self._size = self._fd, None, None, None
        if fd is not None:
            os.close(fd)

    def _write(self, fd: int, lines: bytes) -> int:
        """Write `lines`. Return how many of their bytes are now in the file as complete lines.

        A line also counts as complete if only its newline is missing, because the next write begins with a newline.
        """
        end, self._size = self._size, None
        if end is None:
            end = os.lseek(fd, 0, os.SEEK_END)
        data = lines if end == self._end or _ends_whole(fd) else b"\n" + lines
        written = os.write(fd, data)
        # The position is behind lines that other programs have appended since the check of the file's end.
        self._least = os.lseek(fd, 0, os.SEEK_CUR)
        self._last = (self._least - written, data[:_HEAD])
        if written == len(data):
            self._end = self._least
            return len(lines)
        self._end = None
        done = max(written - (len(data) - len(lines)), 0)
        return done + 1 if lines[done : done + 1] == b"\n" else lines.rfind(b"\n", 0, done) + 1

    def _is_ours(self, found: os.stat_result, fd: int) -> bool:
        """Return True if `fd` is the file of the last write, and the file still contains the lines of this write."""
        if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._least:
            return False
        self._size = found.st_size
        if found.st_size == self._least:
            return True
        begin, head = self._last
        return os.pread(fd, len(head), begin) == head

    def _begin(self, found: os.stat_result, fd: int) -> None:
        """Reset the state for a file to which this object has not written before."""
        self.opening += 1
        self._identity, self._least, self._last = (found.st_dev, found.st_ino), found.st_size, (0, b"")
        if self.fsync and found.st_size == 0:  # the name of a new file may not be on the disk yet
            sync(self.path.parent)


def _ends_whole(fd: int) -> bool:
    """Return True if the file is empty, or ends with a complete line.

    While another program writes, the file may end without a newline for a moment. So this function first makes an empty
    write, which returns only after the other program's write has ended (Linux locks the file for each write).
    """
    for _ in range(_PATIENCE):
        size = os.lseek(fd, 0, os.SEEK_END)
        if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
            return True
        os.write(fd, b"")
    return False
