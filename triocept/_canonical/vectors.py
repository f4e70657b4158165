"""Compute vectors (embeddings) of texts from the words of the texts, for tests of semantic search without a model.

Rules:

1. Equal texts have equal vectors, on every machine and in every version of Python.
2. Texts that share words, or parts of words (`developer`, `developers`), are nearer to each other than other texts. The
   method is feature hashing. A feature is a word, or a sequence of three letters in a word. The hash of a feature
   selects numbers of the vector, and the feature adds to these numbers or subtracts from them. So texts that share no
   part of a word have a cosine of about 0, and a synonym is as far away as any other word.
3. A vector has length 1. The numbers of a vector are 4-byte floats, so that a vector in decimal text equals the same
   vector in packed bytes.
4. If the input is a list of token ids, each id counts as a word whose letters are unknown.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import hypot, log
from typing import TypeAlias
from unicodedata import normalize

from .tokens import CHARACTERS_PER_TOKEN

Embedded: TypeAlias = str | tuple[int, ...]
"""The input of a vector: a text, or the ids of its tokens."""
Vector: TypeAlias = Sequence[float]

DIMENSIONS = 1536
"""Default number of dimensions: the number of OpenAI's text-embedding-3-small, a common default of vector stores."""
_PLACES = struct.Struct("<4I")
"""Format of the four positions in a vector at which one feature is added. Two features that share one position usually
differ at the other three."""
_WHOLE = 0.5
"""Weight of the feature that is the whole text. Because of this feature, only equal texts have a cosine of 1. A word
has the weight 1."""
_WORD = re.compile(r"\w+")


def vector_of(said: Embedded, dimensions: int = DIMENSIONS) -> Vector:
    """Return the vector of `said`, with `dimensions` numbers and the length 1."""
    vector = [0.0] * dimensions
    # Each repetition of a feature adds less to its weight.
    weights = {feature: 1 + log(count) for feature, count in Counter(_features(said)).items()}
    for feature, weight in [*weights.items(), (f"={said}", _WHOLE)]:
        for place in _places(feature):
            vector[(place >> 1) % dimensions] += weight if place & 1 else -weight
    length = hypot(*vector)
    if not length:  # all features cancelled out, which can happen with two or three dimensions
        vector[0] = length = 1.0
    return array("f", [number / length for number in vector]).tolist()


def token_count(said: Embedded) -> int:
    """Return the estimated number of tokens of a text, or the number of ids in a list of token ids; at least 1."""
    return max(1, len(said) // CHARACTERS_PER_TOKEN if isinstance(said, str) else len(said))


def _features(said: Embedded) -> Iterator[str]:
    if not isinstance(said, str):
        yield from (f"#{token}" for token in said)
        return
    for found in _WORD.finditer(normalize("NFKC", said).casefold()):
        word = f"^{found[0]}$"
        yield word
        yield from (word[at : at + 3] for at in range(len(word) - 2) if len(word) > 3)


@lru_cache(maxsize=32768)
def _places(feature: str) -> tuple[int, ...]:
    return _PLACES.unpack(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=16).digest())
