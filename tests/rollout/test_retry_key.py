"""What makes two calls the same: the rule itself, without an agent. (How agents try again: `test_retries`.)"""

from __future__ import annotations

import pytest

from triocept import Message, Request, Text
from triocept._rollout.retries import attempt_of, retry_key, same_request

COUNT = "x-stainless-retry-count"


def request(text: str = "fix it", **more: object) -> Request:
    said = (Message("user", (Text(text),)),)
    return Request(dialect="openai_responses", model="m", messages=said, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more", [{"continued_from": "resp_1"}, {"user": "u"}, {"stream": True}, {"include_usage": True}]
)
def test_how_a_call_is_told_and_delivered_is_no_part_of_what_it_says(more: dict[str, object]) -> None:
    """The history may be sent whole the second time, where the first named the earlier answer."""
    assert same_request(request(**more), request())
    assert same_request(request(), request(**more))


def test_what_a_call_says_to_the_model_makes_it_another() -> None:
    assert not same_request(request(), request("mend it"))
    assert not same_request(request(previous_response="resp_1"), request())


def test_calls_with_other_last_words_are_not_even_alike() -> None:
    assert retry_key(request(), None) == retry_key(request(continued_from="resp_1"), None)
    assert retry_key(request(), None) != retry_key(request("mend it"), None)


@pytest.mark.parametrize(
    ("count", "attempt"),
    [("0", 1), ("2", 3), ("999999", 1_000_000), ("1000000", 1), ("-1", 1), ("", 1), ("x", 1)],
)
def test_which_try_a_call_is_says_its_header_if_that_is_a_number_within_reason(
    count: str, attempt: int
) -> None:
    assert attempt_of({COUNT: count}) == attempt
    assert attempt_of({}) == 1
