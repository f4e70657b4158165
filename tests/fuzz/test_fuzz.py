"""Inputs made by a machine, for as long as there is time; and those that once failed, first."""

import json
import os

import pytest

from tests.fuzz.kind import Input, Violation
from tests.fuzz.kinds import KINDS
from tests.fuzz.left import descriptors
from tests.fuzz.runner import again, failed_once, input_of, run, told
from tests.fuzz.shrink import shrink, size
from tests.fuzz.stage import Client, Stage
from tests.seeds import first_seed
from triocept._upstream.chunked import ChunkedDecoder

SECONDS = float(os.environ.get("TRIOCEPT_FUZZ_SECONDS", "6"))
"""Of fresh inputs, all kinds together. `nox` gives them 12, on the newest Python; `nox -s soak` tries a million."""
ONCE_FAILED = failed_once()


@pytest.mark.parametrize(("kind", "why", "value"), ONCE_FAILED, ids=[why for _, why, _ in ONCE_FAILED])
def test_an_input_that_once_failed_holds(kind: str, why: str, value: Input) -> None:
    assert again(KINDS[kind], [value]) is None, why


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_a_fresh_seed_hold(kind: str) -> None:
    seed = first_seed()
    print(f"seed {seed}")  # pytest shows it where it fails
    report = run(KINDS[kind], seed, seconds=SECONDS / len(KINDS), most_failures=1)
    print(report)
    if report.failures:
        pytest.fail(told(report.failures[0], seed), pytrace=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_its_inputs(kind: str) -> None:
    inputs = [input_of(KINDS[kind], 7, number) for number in range(20)]
    assert inputs == [input_of(KINDS[kind], 7, number) for number in range(20)]
    assert inputs != [input_of(KINDS[kind], 8, number) for number in range(20)]
    assert all(json.loads(json.dumps(value)) == value for value in inputs)


def test_the_shortest_part_that_still_fails_is_found() -> None:
    async def fails(value: Input) -> bool:
        return "x" in str(value.get("a")) and 7 in value.get("b", ())

    value = {"a": "y" * 500 + "x" + "z" * 500, "b": list(range(100)), "c": {"d": [1, 2, 3]}}
    steps = shrink(value, fails, 5000)
    with pytest.raises(StopIteration) as done:
        steps.send(None)
    assert done.value.value == {"a": "x", "b": [7]}


@pytest.mark.parametrize("kind", ["http1", "websocket", "tls"])
def test_a_check_that_fails_leaves_no_socket_open(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Stage.begin

    async def settle(self: Client) -> None:
        raise Violation("a rule of this test", "")

    async def begin_then_fail(self: Stage) -> None:
        await begin(self)
        monkeypatch.setattr(Client, "settle", settle)

    monkeypatch.setattr(Stage, "begin", begin_then_fail)
    before = descriptors()
    found = again(KINDS[kind], [input_of(KINDS[kind], 7, number) for number in range(3)])
    assert found.rule == "a rule of this test"
    assert descriptors() == before


def test_a_fault_is_found_and_told_with_its_seed_and_the_shortest_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decoder that forgets a size line which comes in two, say."""
    line = ChunkedDecoder._read_line

    def forgetful(self: ChunkedDecoder, data: bytes, at: int) -> int | None:
        after = line(self, data, at)
        return len(data) if after is None else after

    monkeypatch.setattr(ChunkedDecoder, "_read_line", forgetful)
    report = run(KINDS["upstream"], 7, inputs=20_000, most_failures=1)
    (failure,) = report.failures
    text = told(failure, 7)
    assert failure.violation.rule in ("split otherwise, another error", "split otherwise, another result")
    assert "seed 7, upstream, input" in text
    assert "python -m tests.fuzz --seed 7 --only upstream --start" in text
    assert size(failure.value) < size(input_of(KINDS["upstream"], 7, failure.number))
