"""Check that a trace file is complete. Each missing or changed part is reported as a gap, which has a name.

The hash chains in a file cannot show two losses: that all lines of a rollout are missing, or that the scores after a
seal are missing. To detect such a loss, store `trace.digest` outside the file, and compare it with `report.digests`. A
stored digest also detects deliberate changes. Without a stored digest, the check finds only accidental damage, because
a person who changes a file can compute new chains.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from .entries import Gap
from .lines import VERSION, Found, OtherLine, Piece, SealLine, Unreadable, found_lines, other_version
from .proof import Proof

MOST_GAPS = 10_000
"""Maximum number of gaps in a report. (In a file of another format, each line is a gap.)"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `check`: the gaps of a trace file, and the counts of its lines, rollouts and turns."""

    path: str
    lines: int
    """Number of readable lines."""
    rollouts: int
    turns: int
    """Number of turns for which both the outcome and the request can be read."""
    gaps: tuple[Gap, ...]
    """The missing or changed parts of the file, in the order of the lines; at most 10,000."""
    more: int = 0
    """Number of further gaps that `gaps` does not contain, because it has reached its maximum."""
    digests: dict[str, str] = {}
    """Digest of each rollout's last seal, by `rollout/run`. In the program that wrote the file, `trace.digest` has the
    same value."""

    @property
    def complete(self) -> bool:
        """True if no part of the file is missing or changed: `gaps` is empty."""
        return not self.gaps


def check(path: str | os.PathLike[str]) -> Report:
    """Check that no line of a `JSONLRecorder`'s file is missing or changed.

    The check needs memory for the state of each rollout without a seal, and a few hundred bytes for each sealed
    rollout. A file that is still being written has gaps, too: `no_seal` for each running rollout, and `no_turn` for
    each running call.

    Raises:
        OSError: the file cannot be read.
    """
    return check_those(path, lambda gap: True)


def check_those(path: str | os.PathLike[str], concerned: Callable[[Gap], bool]) -> Report:
    checked = _Check(os.fspath(path), concerned)
    for number, piece in found_lines(path):
        checked.add(piece, number)
    return checked.report()


class _Check:
    """A running check of one file: it counts lines, rollouts and turns, and collects the gaps."""

    def __init__(self, path: str, concerned: Callable[[Gap], bool]) -> None:
        self._path = path
        self._concerned = concerned
        self._gaps: list[Gap] = []
        self._more = 0
        self._proofs: dict[tuple[str, str], Proof] = {}
        self._lines = 0
        self._is_old = False
        """True if a line of format 1 was found. The gap `old_format` is reported only for the first such line."""

    def add(self, piece: Piece, number: int) -> None:
        """Check the next piece of the file: a line, or unreadable bytes. `number` is the line number of the piece."""
        match piece:
            case Unreadable(version=version) if version:
                if version > VERSION:
                    self._add_gap("newer_version", number, other_version(version))
                elif not self._is_old:
                    self._is_old = True
                    self._add_gap("old_format", number, other_version(version))
            case Unreadable(cut=cut, why=why):
                self._add_gap("unreadable_line", number, "the line was cut off" if cut else why)
            case Found(line=line, data=data):
                self._lines += not isinstance(line, OtherLine)
                key = (line.rollout, line.run)
                if (proof := self._proofs.get(key)) is None:
                    proof = self._proofs[key] = Proof(*key, self._path, self._take_gap)
                proof.take(line, data, number)
                if isinstance(line, SealLine):
                    proof.rest()

    def report(self) -> Report:
        """Add the gaps that can be found only at the end of the file, such as missing seals, and return the report."""
        for proof in self._proofs.values():
            proof.end()
        if not self._lines and not self._gaps:
            self._add_gap("empty", None, "the file contains no line")
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

    def _add_gap(self, name: str, number: int | None, message: str) -> None:
        self._take_gap(Gap(name=name, message=message, path=self._path, line=number))

    def _take_gap(self, gap: Gap) -> None:
        if not self._concerned(gap):
            return
        if len(self._gaps) < MOST_GAPS:
            self._gaps.append(gap)
        else:
            self._more += 1
