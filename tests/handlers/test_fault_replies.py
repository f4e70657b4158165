"""Faults as replies: each does to a call what its name says, whatever the agent speaks."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.asking import ask
from triocept import Response, ToolCall, serve_endpoint
from triocept.handlers import Fault
from triocept.handlers.faults import MAKERS


async def test_a_status_is_an_error_of_the_dialect_with_what_it_was_given() -> None:
    fault = Fault.status(429, retry_after=2, should_retry=True, headers={"x-ratelimit-reset": "1"})
    async with serve_endpoint() as endpoint, endpoint.open_rollout(fault) as rollout:
        answered = await ask(rollout)
    assert answered.status_code == 429
    assert answered.headers["retry-after"] == "2"
    assert answered.headers["x-should-retry"] == "true"
    assert answered.headers["x-ratelimit-reset"] == "1"
    assert answered.json()["error"]["message"] == "Too Many Requests"
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert turn.error.status == 429


@pytest.mark.parametrize("kind", [datetime, timedelta])
async def test_a_date_to_try_again_is_a_date_on_the_wire(kind: type) -> None:
    hour = timedelta(hours=1)
    when = datetime.now(UTC) + hour if kind is datetime else hour
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(Fault.status(503, retry_after=when)) as rollout:
            answered = await ask(rollout)
    said = parsedate_to_datetime(answered.headers["retry-after"])
    assert timedelta(minutes=59) < said - datetime.now(UTC) <= timedelta(hours=1)


async def test_an_answer_that_was_too_long_or_filtered_says_so() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(Fault.finish("length", "half an")) as rollout:
            choice = (await ask(rollout)).json()["choices"][0]
            assert choice["finish_reason"] == "length"
            assert choice["message"]["content"] == "half an"
        async with endpoint.open_rollout(Fault.finish("content_filter")) as rollout:
            assert (await ask(rollout)).json()["choices"][0]["finish_reason"] == "content_filter"


async def test_a_prompt_that_is_too_long_is_told_in_the_words_that_agents_know() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(Fault.context_length()) as rollout:
        answered = await ask(rollout)
    assert answered.status_code == 400
    assert answered.json()["error"]["code"] == "context_length_exceeded"
    assert "200001" in answered.json()["error"]["message"]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Fault.status(200), "status"),
        (lambda: Fault.status("429"), "status"),  # type: ignore[arg-type]
        (lambda: Fault.status(429, retry_after=-1), "retry_after"),
        (lambda: Fault.status(429, retry_after=datetime(2026, 1, 1)), "retry_after"),
        (lambda: Fault.status(429, retry_after=timedelta(-1)), "retry_after"),
        (lambda: Fault.context_length(5, 5), "tokens"),
        (lambda: Fault.finish("end"), "reason"),  # type: ignore[arg-type]
        (lambda: Fault.finish("length", 5), "answer"),  # type: ignore[arg-type]
        (lambda: Fault.cut(-1), "after"),
        (lambda: Fault.cut(99), "after"),
        (lambda: Fault.cut(True), "after"),
        (lambda: Fault.cut(2, answer="word"), "after"),
        (lambda: Fault.cut(answer=5), "answer"),  # type: ignore[arg-type]
        (lambda: Fault.reset(99), "after"),
        (lambda: Fault.stall(1.5), "after"),  # type: ignore[arg-type]
        (lambda: Fault.noise(0), "size"),
        (lambda: Fault.noise(seed=-1), "seed"),
        (lambda: Fault.html(100), "status"),
        (lambda: Fault.html(page=b""), "page"),  # type: ignore[arg-type]
        (lambda: Fault.html(retry_after=-1), "retry_after"),
        (lambda: Fault.html(headers={"a b": "c"}), "headers"),
        (lambda: Fault.redirect(status=200), "status"),
        (lambda: Fault.redirect("a\r\nb"), "location"),
        (lambda: Fault.error_body(status=200), "status"),
        (lambda: Fault.error_event(message=5), "message"),  # type: ignore[arg-type]
        (lambda: Fault.error_event(99), "after"),
        (lambda: Fault.cut_json(17), "after"),
        (lambda: Fault.wrong_length(0), "by"),
        (lambda: Fault.wrong_length(1.5), "by"),  # type: ignore[arg-type]
        (lambda: Fault.not_gzip(5), "answer"),  # type: ignore[arg-type]
        (lambda: Fault.unended(framing="length"), "framing"),  # type: ignore[arg-type]
        (lambda: Fault.garbage(99), "after"),
        (lambda: Fault.drip(-1), "every"),
        (lambda: Fault.drip(size=0), "size"),
        (lambda: Fault.split_letters("ascii"), "answer"),
        (lambda: Fault.cut_arguments("x"), "call"),  # type: ignore[arg-type]
        (lambda: Fault.cut_arguments(ToolCall("t", "")), "call"),
        (lambda: Fault.cut_arguments(ToolCall("t", '{"a":1}'), after=7), "after"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_where_it_is_made_and_names_the_argument(
    make: Any, word: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"\b{word}\b"):
        make()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: Fault.statuss(429),
            AttributeError,
            r"^there is no Fault.statuss; did you mean Fault.status\?$",
        ),  # type: ignore[attr-defined]
        (lambda: Fault.Cut(), AttributeError, r"^there is no Fault.Cut; did you mean Fault.cut\?$"),  # type: ignore[attr-defined]
        (
            lambda: Fault.rate_limit(),
            AttributeError,
            r"^there is no Fault.rate_limit; did you mean Fault.status\(429\)\?$",
        ),  # type: ignore[attr-defined]
        (lambda: Fault.cut(afetr=2), TypeError, r"^Fault.cut\(\) got an unexpected keyword argument 'afetr'"),  # type: ignore[call-arg]
        (lambda: Fault.qqq(), AttributeError, "^there is no Fault.qqq; the faults are close, comments, "),  # type: ignore[attr-defined]
        (lambda: Fault(), TypeError, r"by its name, as in Fault.status\(429\)"),
        (lambda: Fault(429), TypeError, r"by its name, as in Fault.status\(429\)"),  # type: ignore[arg-type]
        (
            lambda: Fault.cut("a b"),
            TypeError,
            "after must be a number, not str: 'a b': pass the answer as answer=",
        ),  # type: ignore[arg-type]
        (lambda: Fault.drip("a b"), TypeError, "every must be a number, not str: 'a b': pass the answer"),  # type: ignore[arg-type]
        (lambda: Fault.wrong_length("a"), TypeError, "by must be a number, not str: 'a': pass the answer"),  # type: ignore[arg-type]
    ],
)
def test_a_slip_in_a_fault_is_told_with_what_was_meant(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
    assert not hasattr(Fault, "__wrapped__")
    assert getattr(Fault, "nothing", None) is None


def test_what_is_spoilt_may_come_behind_the_number() -> None:
    for name in ("cut", "reset", "stall", "unended", "garbage", "cut_json", "error_event"):
        make = MAKERS[name]
        assert make(1, "a b c") == make(after=1, answer="a b c")
    assert Fault.wrong_length(5, "a") == Fault.wrong_length(by=5, answer="a")
    assert Fault.drip(0.1, "a", size=3) == Fault.drip(every=0.1, answer="a", size=3)


def test_a_fault_is_a_value() -> None:
    fault = Fault.status(429, retry_after=1)
    assert repr(fault) == "Fault.status(status=429, retry_after=1)"
    assert fault == Fault.status(429, retry_after=1)
    assert fault != Fault.status(429)
    assert len({fault, Fault.status(429, retry_after=1)}) == 1
    assert repr(Fault.cut()) == "Fault.cut()"
    assert repr(Fault.cut(after=3, answer="a b c")) == "Fault.cut(after=3, answer='a b c')"
    assert Fault.cut() == Fault.cut(2) != Fault.cut(1)
    assert Fault.finish("length", Response.of("a")) == Fault.finish("length", Response.of("a"))
    with pytest.raises(AttributeError, match="a Fault is immutable"):
        fault.name = "other"


def test_the_page_of_the_faults_has_every_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "faults.md").read_text()
    made = {name for name in dir(Fault) if not name.startswith("_")} - {"name", "arguments"}
    assert {name for name in made if f"`{name}(" not in page} == set()
