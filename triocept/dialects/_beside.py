"""Answers of a side route that need the rollout: embeddings, and moderations of texts."""

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
"""Maximum dimensions in a request, larger than any provider's: text-embedding-3-large has 3072."""


@final
@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """An answer made of vectors: from the rollout's `embed`, or computed from the words."""

    model: str
    """The model's name in the request."""
    inputs: tuple[Embedded, ...]
    """The inputs, each a text, or the ids of its tokens."""
    dimensions: int | None = None
    """Required length of each vector; None: the vectors' own length."""
    render: Callable[[Sequence[Vector], int], Json]
    """Function of `(vectors, tokens)` that returns the document: one vector for each input, and the inputs' total
    tokens."""


@final
@dataclass(frozen=True, kw_only=True)
class Moderations:
    """An answer made of the verdicts of the rollout's `moderate`; without that function, no text is flagged."""

    model: str
    """The model's name in the request."""
    texts: tuple[str, ...]
    render: Callable[[Sequence[Verdict]], Json]
    """Function of `(verdicts)` that returns the document, given one verdict for each text."""


def read_dimensions(fields: Fields, name: str) -> int | None:
    """Return the vector length in this field; None if the field is missing.

    Raises:
        DialectError: a vector cannot have this length.
    """
    dimensions = fields.integer(name)
    if dimensions is not None and not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DialectError(f"must be from 1 to {_MOST_DIMENSIONS:,}, not {dimensions}", path=fields.at(name))
    return dimensions
