"""What this version cannot read of a whole file is a gap, by name: nothing is left out of a trace that is sealed."""

from pathlib import Path

import pytest

from tests.trace.later import write_as_later, write_lines_as_later
from tests.trace.test_proof import played, read, write
from triocept import read_traces
from triocept.traces import check


@pytest.mark.parametrize(("known", "later", "gaps"), [
    (b'"part":"Text","text":"r1"', b'"part":"Video","url":"v"',
     [("value_unreadable", None), ("value_missing", "x2")]),
    (b'"part":"Text","text":"r0"', b'"part":"Video","url":"v"',
     [("value_unreadable", None), ("value_missing", "x1"), ("value_missing", "x2")]),
    (b'"name":"bash"', b'"name":["bash"]',
     [("value_unreadable", None), *[("value_missing", f"x{number}") for number in range(3)]]),
    (b'"model":"m"', b'"model":{"any":"m"}', [("request_unreadable", f"x{number}") for number in range(3)]),
], ids=["the last message", "a message", "tools", "a request"])  # fmt: skip
def test_what_a_later_version_has_written_and_this_one_cannot_read_is_a_gap(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: bytes,
    later: bytes,
    gaps: list[tuple[str, str | None]],
) -> None:
    file = tmp_path / "t.jsonl"
    with monkeypatch.context() as patched:
        write_as_later(patched, known, later)
        write(file, played())
    assert later in file.read_bytes()
    report = check(file)
    assert [(gap.name, gap.call) for gap in report.gaps] == gaps
    (trace,) = read(file)
    assert not trace.sealed
    assert trace.gaps == report.gaps
    assert report.turns == len(trace)
    lost = {call for _, call in gaps if call is not None}
    assert [turn.id for turn in trace] == [f"x{number}" for number in range(3) if f"x{number}" not in lost]
    told: list[str] = []
    read_traces(file, on_damage=lambda damage: told.append(str(damage)))
    assert "cannot be read" in told[0]


@pytest.mark.parametrize(("known", "later", "what", "call"), [
    (b'{"part":"Text","text":"ok"}]},"started', b'{"part":"Video","url":"v"}]},"started', "turn", "x1"),
    (b'"number":1,"outcome":"answered"', b'"number":1,"outcome":"postponed"', "turn", "x1"),
    (b'"kind":"tool"', b'"kind":"oracle"', "service", None),
    (b'{"type":"agent"', b'{"type":"machine"', "machine", None),
    (b'"agent":"claude-cli/2 (x)","request"', b'"agent":{"name":"claude"},"request"', "intent", "x1"),
    (b'"ended":"body"', b'"ended":"paused"', "seal", None),
], ids=["an answer", "an outcome", "a service call", "a line", "an intent", "a seal"])  # fmt: skip
def test_a_line_that_a_later_version_has_written_is_one_gap_and_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bytes, later: bytes, what: str, call: str | None
) -> None:
    file = tmp_path / "t.jsonl"
    with monkeypatch.context() as patched:
        write_lines_as_later(patched, known, later)
        write(file, played())
    report = check(file)
    assert later in file.read_bytes()
    assert {gap.name for gap in report.gaps} == {"record_unreadable"}
    assert call in {gap.call for gap in report.gaps}
    assert all(f"cannot read the {what} line: " in gap.message for gap in report.gaps)
    (trace,) = read(file)
    assert not trace.sealed
    assert trace.gaps == report.gaps
    assert report.turns == len(trace)
    assert trace.pending == ()
    told: list[str] = []
    read_traces(file, on_damage=lambda damage: told.append(str(damage)))
    assert f"this version of triocept cannot read the {what} line: " in told[0]
    assert "does not belong" not in "".join(told)
