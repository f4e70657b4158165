"""Store the tokens of one call, as the inference engine returned them. Trainers read these tokens.

Rules:

1. Ids and log probabilities are stored as bytes, four for each number, because a long call has 100,000 such numbers.
2. Each inconsistency in the tokens is recorded by its name in `Tokens.gaps`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import TypeVar

import msgspec

N = TypeVar("N", int, float)


class Tokens(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The tokens of a prompt that the inference engine read, and of the completion that it sampled."""

    prompt: bytes = b""
    """Ids of the prompt's tokens, as little-endian int32; `prompt_ids` decodes them."""
    completion: bytes = b""
    """Ids of the completion's tokens, as little-endian int32; `completion_ids` decodes them."""
    probabilities: bytes = b""
    """Natural logarithms of the probabilities of the completion's tokens, as little-endian float32; `logprobs` decodes
    them."""
    engine: str = ""
    """Name of the engine's profile: `vllm`, `sglang`, `llama_cpp`."""
    policy_version: str | None = None
    """Version of the weights: the version that the engine reported or, if it reported none, `upstream.policy_version`;
    None if unknown."""
    temperature: float | None = None
    """Temperature that was requested from the server, or that the server reported. None means that the server used its
    default, which is unknown."""
    stop_included: bool | None = None
    """True if the completion ends with the end-of-turn token, according to the server; None if the server does not
    report this."""
    routed_experts: bytes = b""
    """Experts (of a mixture-of-experts model) that processed each token of prompt and completion, except the last
    token. The value is a `.npy` file of shape (tokens, layers, experts per token); read it with
    `numpy.load(io.BytesIO(...))`. Empty if the server did not return the experts. vLLM returns them with
    `--enable-return-routed-experts`, in an answer that is not streamed."""
    gaps: tuple[str, ...] = ()
    """Names of the checks that the tokens failed: `ids_missing`, `ids_count`, `prompt_ids_missing`, `prompt_ids_count`,
    `logprob_count`, `logprob_sentinel`, `token_id_mismatch`, `multi_choice`, `upstream_truncated`. Empty means that the
    tokens passed every check."""

    @property
    def prompt_ids(self) -> array[int]:
        """The token ids of the prompt, as an `array` of 32-bit integers (NumPy reads it without a copy)."""
        return unpacked_ids(self.prompt)

    @property
    def completion_ids(self) -> array[int]:
        """The token ids of the completion, as an `array` of 32-bit integers."""
        return unpacked_ids(self.completion)

    @property
    def logprobs(self) -> array[float]:
        """The log probability of each token of the completion, as an `array` of 32-bit floats."""
        return unpacked_floats(self.probabilities)


def packed_ids(ids: Iterable[int]) -> bytes:
    """Return token ids as bytes. Raise OverflowError if an id does not fit into 32 bits."""
    return _little_endian(array("i", ids)).tobytes()


def packed_floats(numbers: Iterable[float]) -> bytes:
    return _little_endian(array("f", numbers)).tobytes()


def unpacked_ids(data: bytes) -> array[int]:
    return _little_endian(array("i", data))


def unpacked_floats(data: bytes) -> array[float]:
    return _little_endian(array("f", data))


def _little_endian(values: array[N]) -> array[N]:
    """Convert an array from the machine's byte order to little-endian, or back. Return the array."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
