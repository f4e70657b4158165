"""What a side route may ask of the rollout beside its model: vectors, and what is found in texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from .._canonical.content import Json
from .._canonical.vectors import Embedded, Vector
from .._canonical.verdict import Verdict
from ..errors import DialectError
from ._documents import Fields

_MOST_DIMENSIONS = 4096
"""More than any provider gives, whatever is asked: text-embedding-3-large has 3072."""


@final
@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """An answer that is made of vectors: those of the rollout's `embed`, or of the words."""

    model: str
    """As it was asked for."""
    inputs: tuple[Embedded, ...]
    """Each a text, or the ids of its tokens."""
    dimensions: int | None = None
    """How many numbers each vector must have; None: as many as it has."""
    render: Callable[[Sequence[Vector], int], Json]
    """Of `(vectors, tokens)`: the document, of as many vectors as there are inputs, and how many tokens these have."""


@final
@dataclass(frozen=True, kw_only=True)
class Moderations:
    """An answer that is made of what the rollout's `moderate` finds in texts; without one, nothing is found."""

    model: str
    """As it was asked for."""
    texts: tuple[str, ...]
    render: Callable[[Sequence[Verdict]], Json]
    """Of `(verdicts)`: the document, of one verdict for each text."""


def read_dimensions(fields: Fields, name: str) -> int | None:
    """How many numbers a vector is to have, in this field; None: it does not say.

    Raises:
        DialectError: it is no number that a vector can have.
    """
    dimensions = fields.integer(name)
    if dimensions is not None and not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DialectError(f"must be from 1 to {_MOST_DIMENSIONS:,}, not {dimensions}", path=fields.at(name))
    return dimensions
