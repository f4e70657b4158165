"""Sequences of token ids as bytes, four to an id: how far they are the same."""

from __future__ import annotations

_BYTES = 4


def common_ids(ids: bytes, others: bytes) -> int:
    """How many ids both begin with."""
    low, high = 0, min(len(ids), len(others)) // _BYTES
    while low < high:  # halved each time, and compared at the speed of memory
        middle = (low + high + 1) // 2
        if ids[low * _BYTES : middle * _BYTES] == others[low * _BYTES : middle * _BYTES]:
            low = middle
        else:
            high = middle - 1
    return low


def answer_kept(prompt: bytes, kept: int, completion: bytes) -> int:
    """How many ids of a completion, from its first on, stand in the prompt of the next turn in a row.

    Args:
        prompt: of the next turn.
        kept: how many of its ids are those of the prompt before: the answer stands behind them. Where not all came back
            nobody can say where exactly, and it is looked for.
        completion: the answer's.
    """
    first, most = completion[:_BYTES], 0
    at = prompt.find(first, kept * _BYTES)
    while first and at >= 0:
        if at % _BYTES == 0:
            most = max(most, common_ids(prompt[at : at + len(completion)], completion))
        at = prompt.find(first, at + 1)
    return most
