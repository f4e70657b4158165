"""The file proves itself: whatever happens to it is found, by name, and nothing else is.

Rules of these tests: a file is written by a recorder, as rollouts write it; then it is damaged; then `check` looks.
"""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import jsonschema
import msgspec
import pytest
import trio
import trio.testing

from tests.asking import ask
from tests.trace.schema import PATH, schema
from tests.trace.test_file import growing
from tests.trace.test_trace import turn
from triocept import (
    DialectError,
    Exchange,
    JSONLRecorder,
    Response,
    Tool,
    ToolCall,
    Trace,
    Turn,
    Usage,
    read_traces,
    serve_endpoint,
)
from triocept._trace import chain
from triocept._trace.lines import Line, line_bytes
from triocept._trace.proof import NAMES
from triocept._trace.runlines import AT_INTENT
from triocept._trace.trace import TraceWriter
from triocept._trace.turn import TurnRecord
from triocept.traces import (
    AgentStart,
    DirectoryRecorder,
    Entry,
    Gap,
    Intent,
    Opening,
    RecorderGroup,
    Report,
    Score,
    ServiceCall,
    Tokens,
    check,
    iter_traces,
)

ROOT = Path(__file__).parents[2]
TOOLS = (Tool(name="bash", description="run", parameters={"type": "object", "properties": {"c": {}}}),)
OPENING = Opening(
    rollout="r", run="n", at=1.0, versions={"triocept": "0"}, metadata={"task": [1, True, None]}
)
START = AgentStart(
    rollout="r",
    run="n",
    argv=("claude", "-p", "x"),
    cwd="/work",
    home="/root",
    config="/cfg",
    started_at=1.25,
)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(60):
            await main()

    trio.run(bounded)


def played(rollout: str = "r", run: str = "n", turns: int = 3) -> list[Entry | Turn | ServiceCall | Trace]:
    """What becomes of a rollout that has an agent, calls with tools, one that was never handed over, a service call."""
    opening = msgspec.structs.replace(OPENING, rollout=rollout, run=run)
    trace = Trace(rollout, run=run, opening=opening)
    writer = TraceWriter(trace)
    done: list[Entry | Turn | ServiceCall | Trace] = [
        opening,
        msgspec.structs.replace(START, rollout=rollout, run=run),
    ]
    for number, plain in enumerate(growing(turns, rollout)):
        request = msgspec.structs.replace(plain.request, tools=TOOLS)
        one = msgspec.structs.replace(
            plain, rollout=rollout, run=run, request=request, agent="claude-cli/2 (x)", notes={"n": number}
        )
        if number != 1:
            done.append(
                Intent(
                    id=one.id,
                    rollout=rollout,
                    run=run,
                    number=number,
                    at=1.5,
                    dialect=one.dialect,
                    request=request,
                    agent=one.agent,
                )
            )
        done.append(one)
        writer.add(one)
    call = ServiceCall(
        id="s",
        rollout=rollout,
        run=run,
        number=0,
        kind="tool",
        name="t",
        outcome="answered",
        started_at=2.0,
        duration=0.5,
    )
    writer.add(call)
    writer.end("body")
    return [*done, call, trace, Score(rollout=rollout, run=run, name="reward", value=0.5, at=3.0)]


async def put(recorder: JSONLRecorder | DirectoryRecorder, entry: Entry | Turn | ServiceCall | Trace) -> None:
    match entry:
        case Turn():
            await recorder.record(entry)
        case ServiceCall():
            await recorder.record_service(entry)
        case Trace():
            await recorder.seal(entry)
        case _:
            await recorder.record_entry(entry)


def write(file: Path, entries: list[Entry | Turn | ServiceCall | Trace]) -> None:
    async def main() -> None:
        recorder = JSONLRecorder(file)
        for entry in entries:
            await put(recorder, entry)
        await recorder.aclose()

    run(main)


def names(report: Report) -> list[str]:
    return [gap.name for gap in report.gaps]


def read(file: Path) -> list[Trace]:
    return read_traces(file, on_damage=lambda damage: None)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    file = tmp_path / "whole.jsonl"
    write(file, played())
    return file


# What is whole


def test_a_whole_file_has_no_gap_and_gives_back_what_was_recorded(whole: Path) -> None:
    report = check(whole)
    assert report.complete
    assert report.gaps == ()
    (trace,) = read_traces(whole)
    wanted = [each for each in played() if isinstance(each, Turn)]
    assert list(trace) == wanted
    assert (report.lines, report.rollouts, report.turns) == (len(whole.read_bytes().splitlines()), 1, 3)
    assert report.digests == {"r/n": trace.digest}
    assert trace.sealed
    assert trace.gaps == ()
    assert trace.metadata == {"task": [1, True, None]}
    assert trace.versions == {"triocept": "0"}
    assert trace.started_at == 1.0
    assert [(agent.name, agent.argv, agent.cwd) for agent in trace.agents] == [
        ("claude", ("claude", "-p", "x"), "/work")
    ]
    assert trace.scores == {"reward": 0.5}
    assert trace.ended == "body"
    assert trace.pending == ()
    assert [call.name for call in trace.services] == ["t"]


@pytest.mark.parametrize("kind", [JSONLRecorder, DirectoryRecorder])
def test_a_recorder_of_triocept_has_no_checkpoint_so_that_it_needs_no_lock(
    kind: type[JSONLRecorder | DirectoryRecorder], tmp_path: Path
) -> None:
    path = tmp_path / "records"

    async def main() -> None:
        recorder = kind(path)
        await recorder.aopen()
        with trio.testing.assert_no_checkpoints():
            for entry in played():
                await put(recorder, entry)
        await recorder.aclose()

    run(main)
    (file,) = path.iterdir() if path.is_dir() else [path]
    assert [len(trace) for trace in read_traces(file)] == [3]


def test_each_turn_has_its_intent_before_it_and_each_value_stands_once(whole: Path) -> None:
    lines = [json.loads(line) for line in whole.read_bytes().splitlines()]
    calls = [(line["type"], line["call"]) for line in lines if line["type"] in ("intent", "turn")]
    assert calls == [(kind, f"x{number}") for number in range(3) for kind in ("intent", "turn")]
    values = [json.dumps(line["value"]) for line in lines if line["type"] == "blob" and "value" in line]
    assert len(values) == len(set(values)) == 5
    assert [line["kind"] for line in lines if line["type"] == "blob"].count("tools") == 1
    assert [line["seq"] for line in lines] == list(range(len(lines)))


@pytest.mark.parametrize("name", ["r", "%d %b%", 'a "quoted" \\ id', "ключ\u2028\n", ""])
def test_each_line_is_the_encoding_of_its_type_whatever_its_names_are(tmp_path: Path, name: str) -> None:
    file = tmp_path / "t.jsonl"
    entries: list[Entry | Turn | ServiceCall | Trace] = [
        msgspec.structs.replace(each, id=f"{name}{each.number}", agent=name or None)
        if isinstance(each, Intent | Turn)
        else each
        for each in played(name, name)
    ]
    write(file, entries)
    decode = msgspec.json.Decoder(Line).decode
    lines = file.read_bytes().splitlines()
    assert [line_bytes(decode(line)) for line in lines] == lines
    assert check(file).complete


def test_the_digest_is_what_sha256_says_by_hand(whole: Path) -> None:
    """As `chain` describes it, and as anybody can check with a program of their own."""
    import hashlib

    last = hashlib.sha256(b"r\nn").digest()[:16]
    for line in whole.read_bytes().splitlines():
        document = json.loads(line)
        assert document["prev"] == last.hex()
        digest = document.get("digest") if document["type"] == "seal" else None
        body = line if digest is None else line.replace(b',"digest":"%b"' % digest.encode(), b"")
        last = hashlib.sha256(last + body).digest()[:16]
        assert digest in (None, last.hex())
    assert check(whole).digests == {"r/n": last.hex()}


def test_a_score_behind_the_seal_goes_on_with_the_chain_and_another_seal_closes_it(whole: Path) -> None:
    kinds = [json.loads(line)["type"] for line in whole.read_bytes().splitlines()]
    assert kinds[-3:] == ["seal", "score", "seal"]
    lines = whole.read_bytes().splitlines(keepends=True)
    whole.write_bytes(b"".join(lines[:-1]))
    assert names(check(whole)) == ["no_seal"]
    whole.write_bytes(b"".join(lines[:-2]))
    assert check(whole).complete, "what is cut off behind a seal cannot be found in the file itself"
    assert check(whole).digests != {"r/n": json.loads(lines[-1])["digest"]}, "but by a digest kept elsewhere"


@pytest.mark.once
def test_rollouts_that_write_at_once_are_no_fault(tmp_path: Path) -> None:
    """300 orders."""
    for seed in range(300):
        file = tmp_path / f"{seed}.jsonl"
        run(partial(write_at_once, file, random.Random(seed)))
        assert check(file).gaps == ()
        assert all(trace.sealed for trace in read_traces(file))


async def write_at_once(file: Path, chance: random.Random) -> None:
    all_of = [played("one", "a"), played("two", "b", turns=2)]
    queues = [list(each) for each in all_of]  # a rollout that gets a score has its trace
    recorders = [JSONLRecorder(file), JSONLRecorder(file)]
    while left := [number for number, queue in enumerate(queues) if queue]:
        which = chance.choice(left)
        await put(recorders[which], queues[which].pop(0))


# What is damaged


@pytest.mark.once
@pytest.mark.parametrize("bit", [0, 5])
def test_a_flip_in_any_byte_is_found(whole: Path, bit: int) -> None:
    """Every byte of a small file, two bits each (the other test takes all eight of one line)."""
    whole.unlink()
    write(whole, played(turns=1))
    data = bytearray(whole.read_bytes())
    before = read_traces(whole)
    for place in range(len(data)):
        data[place] ^= 1 << bit
        whole.write_bytes(data)
        assert check(whole).gaps, f"byte {place}"
        try:
            traces = read(whole)
        except Exception as exc:
            assert "newer triocept" in str(exc) or "does not belong" in str(exc)
        else:
            assert not all(trace.sealed for trace in traces) or traces == before
        data[place] ^= 1 << bit


def test_each_line_that_is_dropped_doubled_swapped_or_cut_off_is_found(whole: Path) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    seals = len(lines) - 1
    for at in range(len(lines)):
        whole.write_bytes(b"".join([*lines[:at], *lines[at + 1 :]]))
        found = set(names(check(whole)))
        assert found >= ({"no_seal"} if at == seals else {"no_open"} if at == 0 else {"lines_missing"}), at
        whole.write_bytes(b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))
        assert names(check(whole)) == ["line_again"]
        if at < seals:
            whole.write_bytes(b"".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]))
            assert check(whole).gaps
        whole.write_bytes(b"".join(lines[:at]))
        if at not in (0, seals - 1):
            assert "no_seal" in names(check(whole))


def test_a_cut_at_any_byte_is_found_and_named(whole: Path) -> None:
    whole.unlink()
    write(whole, played(turns=1))
    data = whole.read_bytes()
    sealed = data.index(b"\n", data.index(b'"type":"seal"'))
    for cut in range(1, len(data) - 1):
        whole.write_bytes(data[:cut])
        found = names(check(whole))
        if cut in (sealed, sealed + 1):
            assert found == []
            continue
        assert "no_seal" in found or found == ["unreadable_line"]
        inside = data[cut - 1 : cut] != b"\n" and data[cut : cut + 1] != b"\n"
        assert ("unreadable_line" in found) == inside


def test_a_gap_names_the_line_the_rollout_and_the_call(whole: Path) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"type":"turn"' in line and b'"x2"' in line)
    whole.write_bytes(b"".join([*lines[:at], *lines[at + 1 :]]))
    report = check(whole)
    assert [(gap.name, gap.line, gap.rollout, gap.run, gap.call) for gap in report.gaps] == [
        ("no_turn", at, "r", "n", "x2"),
        ("lines_missing", at + 1, "r", "n", None),
        ("count_wrong", len(lines) - 3, "r", "n", None),
        ("count_wrong", len(lines) - 1, "r", "n", None),
    ]
    assert str(report.gaps[0]).startswith(f"{whole}:{at}: no_turn of rollout r, call x2: ")
    (trace,) = read(whole)
    assert [intent.id for intent in trace.pending] == ["x2"]
    assert trace.gaps == report.gaps or {gap.name for gap in trace.gaps} == {gap.name for gap in report.gaps}


def test_a_line_that_was_changed_is_told_once_and_what_follows_is_not_to_blame(whole: Path) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"type":"turn"' in line)
    lines[at] = lines[at].replace(b'"n":0', b'"n":7')
    whole.write_bytes(b"".join(lines))
    assert [(gap.name, gap.line) for gap in check(whole).gaps] == [("line_changed", at + 1)]


def test_who_makes_the_chain_anew_has_another_digest(whole: Path) -> None:
    """A check is no signature: the digest that is kept elsewhere is."""
    (kept,) = check(whole).digests.values()
    forged: list[bytes] = []
    last = chain.start("r", "n")
    for line in whole.read_bytes().replace(b'"n":0', b'"n":7').splitlines():
        body = chain.unsealed_line(line) if b'"type":"seal"' in line else line
        body = body.replace(json.loads(line)["prev"].encode(), last.hex().encode())
        last = chain.link(last, body)
        forged.append(chain.sealed_line(body, last) if b'"type":"seal"' in line else body)
    whole.write_bytes(b"\n".join([*forged, b""]))
    report = check(whole)
    assert report.complete
    assert list(report.digests.values()) != [kept]


def test_what_a_turn_says_of_its_tokens_is_a_gap_of_the_report(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    one = msgspec.structs.replace(turn(0, "a"), tokens=Tokens(engine="vllm", gaps=("ids_missing",)))
    trace = Trace("r")
    TraceWriter(trace).add(one)
    write(file, [one, trace])
    assert [(gap.name, gap.message, gap.call) for gap in check(file).gaps] == [
        ("token_gap", "ids_missing", "x0")
    ]


@pytest.mark.parametrize(("content", "found"), [
    (b"", ["empty"]),
    (b"\n\n  \n", ["empty"]),
    (b"a,b\n1,2\n", ["unreadable_line", "unreadable_line"]),
    (b"\xff\xfe\x00", ["unreadable_line"]),
    (b'{"type":"turn","version":3}\n', ["newer_version"]),
    (b'{"type":"turn","version":2}\n', ["unreadable_line"]),
    (b"[" * 5000 + b"\n", ["unreadable_line"]),
])  # fmt: skip
def test_a_file_of_something_else_is_told_line_by_line(
    tmp_path: Path, content: bytes, found: list[str]
) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(content)
    assert names(check(file)) == found


def test_a_file_that_is_nothing_but_damage_takes_no_memory_for_each_line(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(b"x\n" * 30_000)
    report = check(file)
    assert (len(report.gaps), report.more) == (10_000, 20_000)


def test_a_range_that_was_damaged_into_a_long_one_takes_no_time(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes().replace(b'"messages":[[0,1]]', b'"messages":[[0,900000000000]]'))
    start = time.process_time()
    assert "value_missing" in names(check(whole))
    assert read(whole)
    assert time.process_time() - start < 5


def test_what_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        check(tmp_path)
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "none.jsonl")


# What is killed

AT_WORK = """
    import os, sys, trio, triocept
    from tests.asking import ask

    async def answer(exchange):
        await trio.sleep(0.001)
        await exchange.respond("x" * 300)

    async def agent(rollout, number):
        for turn in range(1_000):
            await ask(rollout, f"{number} {turn}")
            os.write(1, b"%s\\n" % rollout.id.encode())

    async def main():
        async with triocept.serve_endpoint(recorder=triocept.JSONLRecorder(sys.argv[1])) as endpoint:
            async with trio.open_nursery() as nursery:
                async def work(number):
                    async with endpoint.open_rollout(answer) as rollout:
                        await agent(rollout, number)
                for number in range(20):
                    nursery.start_soon(work, number)

    trio.run(main)
"""


def kill_at_work(tmp_path: Path, file: Path, chance: random.Random) -> list[bytes]:
    """20 rollouts at work, killed at some moment; a line for each answer whose agent saw its end."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(AT_WORK))
    with subprocess.Popen(
        [sys.executable, str(script), str(file)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        seen = [process.stdout.readline() for _ in range(chance.randrange(1, 200))]
        time.sleep(chance.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        return seen + process.stdout.readlines()


@pytest.mark.once
def test_after_a_sigkill_all_that_was_seen_is_there_and_what_was_in_flight_is_named(tmp_path: Path) -> None:
    """`TRIOCEPT_KILLS` says how often; each time something is appended afterwards."""
    chance = random.Random(7)
    for kill in range(int(os.environ.get("TRIOCEPT_KILLS", "3"))):
        file = tmp_path / f"{kill}.jsonl"
        seen = kill_at_work(tmp_path, file, chance)
        write(file, played())
        report = check(file)
        lost = [gap for gap in report.gaps if gap.rollout is None]
        assert {gap.name for gap in report.gaps} <= {"no_seal", "no_turn", "unreadable_line"}
        assert len(lost) <= 1
        *killed, appended = read(file)
        assert appended.sealed
        assert len([gap for gap in report.gaps if gap.name == "no_seal"]) == len(killed) <= 20
        for trace in killed:
            answers = seen.count(f"{trace.rollout}\n".encode())
            assert len(trace) >= answers, "each turn whose agent saw its end is there"
            named = {
                gap.call for gap in report.gaps if gap.name == "no_turn" and gap.rollout == trace.rollout
            }
            assert named == {intent.id for intent in trace.pending}
            assert len(named) <= 1


# What a rollout writes


async def test_a_call_stands_in_the_file_before_it_is_handed_over(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    found: list[tuple[str, ...]] = []

    async def answer(exchange: Exchange) -> None:
        (trace,) = read(file)
        found.append(tuple(intent.id for intent in trace.pending))
        assert exchange.rollout.trace.pending[0].request.messages == exchange.request.messages
        assert found[-1] == (exchange.id,)
        await exchange.respond("ok")

    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout(answer, metadata={"task": 7}) as rollout:
            await ask(rollout, "a")
            await ask(rollout, "b", stream=True)
            assert rollout.trace.pending == ()
    assert len(found) == 2
    (trace,) = read_traces(file)
    assert trace == rollout.trace
    assert trace.digest == rollout.trace.digest is not None
    assert trace.metadata == {"task": 7}
    assert trace.ended == rollout.trace.ended == "body"
    assert check(file).complete


@pytest.mark.parametrize("how", ["body", "cancelled", "raised"])
async def test_the_seal_says_how_the_body_ended(tmp_path: Path, how: str) -> None:
    file = tmp_path / "t.jsonl"

    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        with trio.CancelScope() as scope:
            try:
                async with endpoint.open_rollout(answer) as rollout:
                    await ask(rollout, "a")
                    if how == "raised":
                        raise KeyError
                    if how == "cancelled":
                        scope.cancel()
                        await trio.sleep_forever()
            except KeyError:
                pass
    (trace,) = read_traces(file)
    assert trace.ended == rollout.trace.ended == how
    assert trace.sealed


async def test_an_agent_that_is_run_is_in_the_trace(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint, endpoint.open_rollout() as rollout:
        env = {"CODEX_HOME": "/cfg", "HOME": "/h"}
        await rollout.run_agent(["true", "-x"], cwd=tmp_path, env=env)
    (trace,) = read_traces(file)
    (agent,) = trace.agents
    assert trace.agents == rollout.trace.agents
    assert (agent.name, agent.argv, agent.cwd) == ("true", ("true", "-x"), str(tmp_path))
    assert (agent.home, agent.config) == ("/h", "/cfg")


async def test_a_score_may_come_after_the_rollout_and_after_its_endpoint(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout() as rollout:
            await rollout.score("early", 1)
        await rollout.score("reward", 0.25)
        digest = rollout.trace.digest
        async with endpoint.open_rollout() as other:
            pass
    await rollout.score("reward", True)
    await other.score("loss", -3)
    one, two = read_traces(file)
    assert one.scores == rollout.trace.scores == {"early": 1.0, "reward": 1.0}
    assert two.scores == {"loss": -3.0}
    assert check(file).complete
    assert one.digest == rollout.trace.digest != digest
    for name, value, error in [(1, 1, TypeError), ("a", "1", TypeError), ("a", float("nan"), ValueError)]:
        with pytest.raises(error):
            await rollout.score(name, value)  # type: ignore[arg-type]


async def test_a_score_behind_the_seal_of_a_file_that_was_moved_away_is_sealed_in_the_next_one(
    tmp_path: Path,
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    file, moved = tmp_path / "t.jsonl", [tmp_path / f"t.jsonl.{number}" for number in range(3)]
    recorder = JSONLRecorder(file)
    async with serve_endpoint(recorder=recorder) as endpoint:
        async with endpoint.open_rollout(answer) as rollout:
            await ask(rollout)
            file.rename(moved[0])
            await ask(rollout)
        for target in moved[1:]:
            file.rename(target)
            await rollout.score("reward", 1.0)
            assert list(check(file).digests.values()) == [rollout.trace.digest]
            assert names(check(file)) == ["begun_elsewhere"]
            assert not open_files(file), "nothing is to come"
    together = tmp_path / "all.jsonl"
    together.write_bytes(b"".join(each.read_bytes() for each in [*moved, file]))
    assert check(together).complete
    (trace,) = read_traces(together)
    assert trace.sealed
    assert trace == rollout.trace


def open_files(file: Path) -> list[str]:
    """The descriptors of this program that lead to it."""
    found = [os.readlink(each.path) for each in os.scandir("/proc/self/fd") if os.path.lexists(each.path)]
    return [each for each in found if each == str(file)]


async def test_files_that_are_written_side_by_side_have_one_digest(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    recorder = RecorderGroup([JSONLRecorder(file) for file in files])
    async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(answer) as rollout:
        await ask(rollout)
    for _ in range(2):
        assert [list(check(file).digests.values()) for file in files] == [[rollout.trace.digest]] * 2
        await rollout.score("reward", 1.0)


async def test_a_call_that_cannot_be_recorded_is_not_handed_over(tmp_path: Path) -> None:
    class Full:
        async def record(self, turn: Turn) -> None: ...
        async def seal(self, trace: Trace) -> None: ...
        async def aclose(self) -> None: ...
        async def record_entry(self, entry: Entry) -> None:
            if isinstance(entry, Intent):
                raise OSError(errno.ENOSPC, "no room")

    asked: list[Exchange] = []

    async def answer(exchange: Exchange) -> None:
        asked.append(exchange)
        await exchange.respond("ok")

    async with serve_endpoint(recorder=Full()) as endpoint:
        with pytest.raises(OSError, match="no room"):
            async with endpoint.open_rollout(answer) as rollout:
                assert (await ask(rollout, "a")).status_code == 500
                await trio.sleep_forever()
    assert asked == []
    assert [(turn.outcome, turn.error and turn.error.status) for turn in rollout.trace] == [("failed", 500)]


@pytest.mark.parametrize("metadata", [[1], {1: 2}, {"a": object()}, "x"])
async def test_metadata_is_json_by_name(metadata: object) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match="metadata"):
            endpoint.open_rollout(metadata=metadata)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
async def test_a_number_that_json_does_not_have_is_told_by_its_place(number: float) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(ValueError, match=r"metadata\['losses'\]\[1\] must be a finite number"):
            endpoint.open_rollout(metadata={"losses": [0.5, number]})


# Reading one by one


def test_traces_come_one_by_one_with_their_late_scores_and_children_among_their_parents(
    tmp_path: Path,
) -> None:
    file = tmp_path / "t.jsonl"
    one, two = played("one", "a"), played("two", "b")
    write(file, [*one[:-1], *two[:-2], one[-1], *two[-2:]])
    write(file, played("cut", "c")[:-2])
    found = list(iter_traces(file))
    assert [(trace.rollout, trace.sealed, dict(trace.scores)) for trace in found] == [
        ("one", True, {"reward": 0.5}),
        ("two", True, {"reward": 0.5}),
        ("cut", False, {}),
    ]
    assert found == read_traces(file)


def test_reading_one_by_one_holds_what_is_open(tmp_path: Path) -> None:
    import gc
    import weakref

    file = tmp_path / "t.jsonl"
    for number in range(30):
        write(file, played(f"r{number}", "n"))
    alive: list[weakref.ref[Trace]] = []
    for trace in iter_traces(file):
        alive.append(weakref.ref(trace))
        del trace
        gc.collect()
        assert sum(each() is not None for each in alive) <= 1
    assert len(alive) == 30


def test_of_very_many_damaged_lines_the_first_are_told_and_how_many_more_there_are(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    write(file, played())
    file.write_bytes(file.read_bytes() + b"x\n" * 5000)
    for read_it in (lambda: read_traces(file), lambda: list(iter_traces(file))):
        with pytest.warns(UserWarning, match="t.jsonl") as told:
            (trace,) = read_it()
        assert trace.sealed
        assert len(told) == 101
        assert "4,900 more lines cannot be read" in str(told[-1].message)
    found: list[object] = []
    read_traces(file, on_damage=found.append)
    list(iter_traces(file, on_damage=found.append))
    assert len(found) == 10_000
    file.write_bytes(b"x\n" * 5000)
    with (
        pytest.warns(UserWarning, match=r"t.jsonl:\d+: this line does not belong"),
        pytest.raises(DialectError, match=r"t.jsonl: this is not a trace file: its first line is .x."),
    ):
        list(iter_traces(file))


async def test_a_file_is_followed_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    found: list[Trace] = []

    async def follow() -> None:
        async for trace in iter_traces(file, follow=True):
            found.append(trace)  # noqa: PERF401 - others look at it meanwhile

    async def wait_for(count: int) -> None:
        while len(found) < count:
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
            for number in range(3):
                async with endpoint.open_rollout(id=f"r{number}") as rollout:
                    assert len(found) == number
                await wait_for(number + 1)
            await rollout.score("late", 1)
            while not found[-1].scores:
                await trio.sleep(0.01)
        file.rename(tmp_path / "old.jsonl")
        await to_thread_write(file)
        await wait_for(4)
        nursery.cancel_scope.cancel()
    assert [trace.rollout for trace in found] == ["r0", "r1", "r2", "r"]
    assert all(trace.sealed for trace in found)


async def to_thread_write(file: Path) -> None:
    recorder = JSONLRecorder(file)
    for entry in played():
        await put(recorder, entry)
    await recorder.aclose()


async def test_async_reading_gives_the_same(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    await to_thread_write(file)
    assert [trace async for trace in iter_traces(file)] == list(iter_traces(file))


# What it costs


def test_a_thousand_turns_with_large_tools_are_small(tmp_path: Path) -> None:
    tools = tuple(Tool(name=f"t{n}", description="x" * 1000) for n in range(64))
    file = tmp_path / "t.jsonl"
    said, turns = ["a"], []
    for number in range(1000):
        plain = turn(number, *said)
        request = msgspec.structs.replace(plain.request, tools=tools)
        usage = Usage(input_tokens=1000, output_tokens=10)
        turns.append(
            msgspec.structs.replace(
                plain,
                run="n",
                request=request,
                response=msgspec.structs.replace(Response.of(ToolCall.of("t", n=number)), usage=usage),
            )
        )
        said += ["ok", f"result {number}"]
    write(file, [*turns])
    assert file.stat().st_size <= 2_000_000


def test_the_schema_in_the_docs_is_that_of_the_lines(whole: Path) -> None:
    assert PATH.read_text() == schema(), "write it anew: python -m tests.trace.schema"
    validator = jsonschema.Draft202012Validator(json.loads(PATH.read_text()))
    for line in whole.read_bytes().splitlines():
        validator.validate(json.loads(line))
        damaged = json.loads(line)
        del damaged["seq"]
        assert not validator.is_valid(damaged)


def test_the_docs_name_every_gap() -> None:
    page = (ROOT / "docs" / "reference" / "traces.md").read_text()
    assert all(f"| `{name}` | {meaning} |" in page for name, meaning in NAMES.items())


def test_every_field_of_a_turn_stands_in_its_line_or_at_its_intent() -> None:
    assert set(Turn.__struct_fields__) == {*TurnRecord.__struct_fields__, *AT_INTENT}


def test_a_gap_says_itself_without_a_line() -> None:
    assert str(Gap(name="empty", message="no line", path="f")) == "f: empty: no line"
