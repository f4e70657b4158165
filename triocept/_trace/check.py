"""Whether a file of traces is whole: every gap in it, by name.

What no chain in a file can tell: that all lines of a rollout are gone, or the last ones behind a seal (its scores). Who
wants to know keeps `trace.digest` elsewhere, and compares (`report.digests`). And it is a proof against accidents: who
changes a file on purpose can make its chains anew; the digest that is kept elsewhere tells them, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from .entries import Gap
from .found_lines import Found, Piece, Unreadable, found_lines, other_version
from .lines import VERSION, SealLine
from .proof import Proof

MOST_GAPS = 10_000
"""That are told one by one; a file of something else may have as many as lines."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a file."""

    path: str
    lines: int
    """How many can be read."""
    rollouts: int
    turns: int
    """How many can be read, with their requests."""
    gaps: tuple[Gap, ...]
    """What is missing, or not as it was written, in the order of the lines; at most 10,000 of them."""
    more: int = 0
    """How many gaps there are beside."""
    digests: dict[str, str] = {}
    """The chain at each rollout's last seal, by `rollout/run`: what `trace.digest` was when it was written."""

    @property
    def complete(self) -> bool:
        """Whether there is no gap."""
        return not self.gaps


def check(path: str | os.PathLike[str]) -> Report:
    """Look at every line of a file of `JSONLRecorder`, and at whether all are there; in constant memory, but for what
    is open at one time, and a few hundred bytes for each rollout.

    A file that is being written has gaps, too: `no_seal` and `no_turn` for what is at work.

    Raises:
        OSError: it cannot be read.
    """
    return check_those(path, lambda gap: True)


def check_those(path: str | os.PathLike[str], concerned: Callable[[Gap], bool]) -> Report:
    """The same; of the gaps only those that concern somebody."""
    checked = _Check(os.fspath(path), concerned)
    for number, piece in found_lines(path):
        checked.add(piece, number)
    return checked.report()


class _Check:
    """What was seen of a file so far."""

    def __init__(self, path: str, concerned: Callable[[Gap], bool]) -> None:
        self._path = path
        self._concerned = concerned
        self._gaps: list[Gap] = []
        self._more = 0
        self._proofs: dict[tuple[str, str], Proof] = {}
        self._lines = 0
        self._is_old = False
        """A line of format 1 has been found: the gap is reported once."""

    def add(self, piece: Piece, number: int) -> None:
        """What stands in line `number`."""
        match piece:
            case Unreadable(version=version) if version:
                if version > VERSION:
                    self._tell("newer_version", number, other_version(version))
                elif not self._is_old:
                    self._is_old = True
                    self._tell("old_format", number, other_version(version))
            case Unreadable(cut=cut, why=why):
                self._tell("unreadable_line", number, "it was cut off" if cut else why)
            case Found(line=line, data=data):
                self._lines += 1
                key = (line.rollout, line.run)
                if (proof := self._proofs.get(key)) is None:
                    proof = self._proofs[key] = Proof(*key, self._path, self._take)
                proof.take(line, data, number)
                if isinstance(line, SealLine):
                    proof.rest()

    def report(self) -> Report:
        """All that was found."""
        for proof in self._proofs.values():
            proof.end()
        if not self._lines and not self._gaps:
            self._tell("empty", None, "no line stands in it")
        self._gaps.sort(key=lambda gap: gap.line or 0)
        return Report(
            path=self._path,
            lines=self._lines,
            rollouts=len(self._proofs),
            turns=sum(proof.turns for proof in self._proofs.values()),
            gaps=tuple(self._gaps),
            more=self._more,
            digests={
                "/".join(filter(None, key)): proof.digest
                for key, proof in self._proofs.items()
                if proof.digest is not None
            },
        )

    def _tell(self, name: str, number: int | None, message: str) -> None:
        self._take(Gap(name=name, message=message, path=self._path, line=number))

    def _take(self, gap: Gap) -> None:
        if not self._concerned(gap):
            return
        if len(self._gaps) < MOST_GAPS:
            self._gaps.append(gap)
        else:
            self._more += 1
