"""The tokens of one call, as the engine that sampled them says: what a trainer needs.

Rules:

1. Ids and log probabilities are bytes, four to a number, not lists of numbers: a long call has 100,000 of them.
2. Whatever does not fit together is a named gap, never silence.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

import msgspec


class Tokens(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the engine read and what it sampled."""

    prompt: bytes = b""
    """Little-endian int32, one for each token of the prompt; `prompt_ids` reads them."""
    completion: bytes = b""
    """Likewise, of the completion; `completion_ids` reads them."""
    probabilities: bytes = b""
    """Little-endian float32, the natural logarithm for each token of the completion; `logprobs` reads them."""
    engine: str = ""
    """The profile: `vllm`, `sglang`, `llama_cpp`."""
    policy_version: str | None = None
    """Which weights these were, as the engine says, else as `upstream.policy_version` said; None: nobody said."""
    temperature: float | None = None
    """The one that the server was asked for, or says that it took; None: nobody said, it was the server's own."""
    stop_included: bool | None = None
    """Whether the completion ends with the token that ends a turn, as the server says; None: it does not."""
    routed_experts: bytes = b""
    """To which experts each token of prompt and completion went, but for the last, where the server says it (vLLM with
    `--enable-return-routed-experts`, in a whole answer): a `.npy` file of shape (tokens, layers, experts per token),
    which `numpy.load(io.BytesIO(...))` reads. Empty: nobody said."""
    gaps: tuple[str, ...] = ()
    """What is wrong with it: `ids_missing`, `ids_count`, `prompt_ids_missing`, `prompt_ids_count`, `logprob_count`,
    `logprob_sentinel`, `token_id_mismatch`, `multi_choice`, `upstream_truncated`. Empty: every check was passed."""

    @property
    def prompt_ids(self) -> array[int]:
        """The ids of the prompt, as an `array` of 32-bit integers (NumPy reads it without a copy)."""
        return unpacked_ids(self.prompt)

    @property
    def completion_ids(self) -> array[int]:
        """The ids of the completion, likewise."""
        return unpacked_ids(self.completion)

    @property
    def logprobs(self) -> array[float]:
        """The log probability of each token of the completion, as an `array` of 32-bit floats."""
        return unpacked_floats(self.probabilities)


def packed_ids(ids: Iterable[int]) -> bytes:
    """Token ids as bytes; OverflowError for a number that is none."""
    values = array("i", ids)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def packed_floats(numbers: Iterable[float]) -> bytes:
    """Numbers as bytes, rounded to 32 bits."""
    values = array("f", numbers)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def unpacked_ids(data: bytes) -> array[int]:
    """Token ids out of bytes."""
    values: array[int] = array("i")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def unpacked_floats(data: bytes) -> array[float]:
    """Numbers out of bytes."""
    values: array[float] = array("f")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
