"""Get embedding vectors for an agent's texts from the program's function, or compute them from the words."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import isfinite
from typing import Any, TypeAlias

import trio

from .._canonical.vectors import DIMENSIONS, Embedded, Vector, vector_of
from .._util.checks import described
from .._util.threads import run_in_thread
from .functions import awaited, check_function

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[Iterable[Iterable[float]]] | Iterable[Iterable[float]]]
"""A function `(texts) -> vectors`, async or not, that returns one vector for each text."""

_FORM = "a function of the texts, async or not, that returns a vector for each text"
_LONG = 50_000
"""Maximum characters of texts whose vectors are computed in trio's own thread (which takes about 25 ms). The vectors of
more characters are computed in a separate thread."""
_THREADS = 2
"""Maximum threads that compute vectors. More threads would be no faster, and would delay trio's own thread, which needs
the same lock of the interpreter."""
_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("triocept_embed")


def check_embed(function: object) -> None:
    check_function("embed", function, _FORM)


async def embed(
    function: Embed | None, inputs: Sequence[Embedded], dimensions: int | None
) -> Sequence[Vector]:
    """Return one vector for each input, from `function` or computed from the words.

    Args:
        function: returns vectors for texts. An input of token ids is passed as a text of these ids (`"9906 1917"`),
            because the tokenizer of the ids is unknown. If None, vectors are computed from the words, see
            `_canonical.vectors`.
        inputs: the inputs of the call.
        dimensions: length that each vector must have. None means the length that `function` returns or, if `function`
            is None, a default length.

    Raises:
        TypeError, ValueError: the function did not return one vector for each text.
        BaseException: the function's own exception.

    Cancellation: cancels the function. If a thread computes the vectors, the thread is abandoned, and ends when it has
    computed its current vector.
    """
    if function is not None:
        texts = [said if isinstance(said, str) else " ".join(map(str, said)) for said in inputs]
        return _checked(await awaited(function(texts)), len(texts), dimensions)

    ended = False

    def made() -> Sequence[Vector]:
        return [vector_of(said, dimensions or DIMENSIONS) for said in inputs if not ended]

    if sum(map(len, inputs)) < _LONG:
        await trio.lowlevel.checkpoint()
        return made()
    try:
        limiter = _limiter.get()
    except LookupError:
        _limiter.set(limiter := trio.CapacityLimiter(_THREADS))
    try:
        return await run_in_thread(made, abandon_on_cancel=True, limiter=limiter)
    finally:
        ended = True


def _checked(given: Any, count: int, dimensions: int | None) -> Sequence[Vector]:
    """Check the vectors that the program's function has returned, and return them as four-byte floats."""
    try:
        vectors = [array("f", vector).tolist() for vector in given]
    except (TypeError, ValueError, OverflowError) as exc:
        raise TypeError(f"embed must be {_FORM}; it returned {described(given)} ({exc})") from exc
    sizes = {len(vector) for vector in vectors}
    if len(vectors) != count:
        raise ValueError(
            f"embed must return a vector for each text, {count} in all; it returned {len(vectors)}"
        )
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            "embed must return vectors that are not empty and all have the same size; it returned vectors of the sizes "
            f"{sorted(sizes)}"
        )
    if dimensions is not None and sizes - {dimensions}:
        text = f"embed returned vectors of {sizes.pop()} numbers, but the agent requested vectors of {dimensions}"
        raise ValueError(text)
    if not all(isfinite(number) for vector in vectors for number in vector):
        raise ValueError("embed must return finite numbers that a 4-byte float can hold")
    return vectors
