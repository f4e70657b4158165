"""Print lines and tables for the commands that show the content of trace files to a person.

Rules:

1. On a terminal, lines have colours and are cut at the edge, with `…`. In a pipe, lines are complete and have no
   colours, so that `grep` finds everything. If `COLUMNS` is set, lines are also cut in a pipe. `NO_COLOR` turns colours
   off, and `FORCE_COLOR` turns them on.
2. Text from an agent or a model cannot control the terminal (see `visible` in `_util.terminal`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Literal, TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from .._util.terminal import visible

Piece: TypeAlias = str | tuple[str, str]
"""A text, or a text and its style."""


class Page:
    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):  # characters that the encoding lacks are escaped
            sys.stdout.reconfigure(errors="backslashreplace")
        # With NO_COLOR, rich prints no bold text, either.
        colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
        self._console = Console(
            file=sys.stdout, color_system=colours, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self.width: int | None = None
        """Number of columns; if None, lines are not cut."""
        given = os.environ.get("COLUMNS", "")
        try:
            if given.isascii() and given.isdigit() and int(given):
                self.width = int(given)
            elif sys.stdout.isatty():
                self.width = self._console.width
        except (AttributeError, ValueError):  # there is no standard output, or it was closed
            pass
        self._is_plain = self.width is None and self._console.color_system is None

    def line(self, *pieces: Piece) -> None:
        """Print the pieces of one line, which is cut at the edge of the terminal."""
        styled = [(each, "") if isinstance(each, str) else each for each in pieces]
        shown = [(visible(text), style) for text, style in styled]
        if self._is_plain:
            self._write("".join(text for text, _ in shown).rstrip())
            return
        text = Text.assemble(*shown)
        text.rstrip()
        if self.width is not None:
            text.truncate(self.width, overflow="ellipsis")
        self._console.print(text, soft_wrap=True)

    def text(self, text: str, style: str = "") -> None:
        """Print a text of any length with its line breaks. No line is cut."""
        text = visible(text, keep="\n\t")
        if self._is_plain or not style:
            self._write(text)
        else:
            self._console.print(Text(text, style), soft_wrap=True)

    def table(self, rows: Iterable[tuple[Piece, ...]], right: Iterable[bool]) -> None:
        """Print rows with aligned columns. For each column, `right` contains True if it is aligned to the right."""
        kept, aligned = list(rows), list(right)
        widths = [max(len(_text(row[at])) for row in kept) for at in range(len(aligned))]
        for row in kept:
            pieces: list[Piece] = []
            for piece, width, to_right in zip(row, widths, aligned, strict=True):
                text = _text(piece)
                padded = f"{text:>{width}}  " if to_right else f"{text:<{width}}  "
                pieces.append(padded if isinstance(piece, str) else (padded, piece[1]))
            self.line(*pieces)

    def _write(self, text: str) -> None:
        print(text, file=sys.stdout)


def width_of(pieces: Iterable[Piece]) -> int:
    return cell_len(visible("".join(map(_text, pieces))))


def _text(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece[0]
