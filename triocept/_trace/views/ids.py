"""Comparison of sequences of token ids as bytes, four to an id."""

from __future__ import annotations

_BYTES = 4


def common_ids(ids: bytes, others: bytes) -> int:
    """Return the number of ids with which both begin."""
    low, high = 0, min(len(ids), len(others)) // _BYTES
    while low < high:  # halved each time, and compared at the speed of memory
        middle = (low + high + 1) // 2
        if ids[low * _BYTES : middle * _BYTES] == others[low * _BYTES : middle * _BYTES]:
            low = middle
        else:
            high = middle - 1
    return low


def answer_kept(prompt: bytes, kept: int, completion: bytes) -> int:
    """Return the number of ids of a completion, from the first on, that the next turn's prompt contains in a row.

    Args:
        prompt: the prompt of the next turn.
        kept: number of its ids that equal the ids of the previous prompt: the answer follows these ids. If not all
            ids came back, the position of the answer is unknown, and the answer is searched for.
        completion: the completion of the answer.
    """
    first, most = completion[:_BYTES], 0
    at = prompt.find(first, kept * _BYTES)
    while first and at >= 0:
        if at % _BYTES == 0:
            most = max(most, common_ids(prompt[at : at + len(completion)], completion))
        at = prompt.find(first, at + 1)
    return most
