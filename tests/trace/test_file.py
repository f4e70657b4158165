"""The file outlives everything: kills, full disks, other programs, other rollouts of the same name, damage.

Rules of these tests: a file is damaged by what damages files (a signal, a limit, another program), or by an edit of its
bytes; what is left is asked of `read_traces` alone.
"""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
import pytest
import trio

from tests.asking import ask
from tests.trace.test_trace import record, turn
from triocept import DialectError, Exchange, JSONLRecorder, Rollout, Trace, Turn, read_traces, serve_endpoint
from triocept.traces import check, iter_traces

ROOT = Path(__file__).parents[2]


async def say_ok(exchange: Exchange) -> None:
    await exchange.respond("ok")


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(20):
            await main()

    trio.run(bounded)


def damages(file: Path) -> tuple[list[Trace], list[str]]:
    """The traces, and the place of each line that cannot be read: its number."""
    found: list[DialectError] = []
    traces = read_traces(file, on_damage=found.append)
    return traces, [each.path.removeprefix(f"{file}:") for each in found]


def texts(each: Turn) -> list[str]:
    return [message.text for message in each.request.messages]


@contextmanager
def program(tmp_path: Path, code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another program, killed at the end if it still runs."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(code))
    with subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


# A cut line, and what follows


@pytest.mark.once
def test_a_cut_line_costs_itself_alone_whoever_appends_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "a"), turn(1, "a", "ok", "b"))
    whole = file.read_bytes()
    turns = whole.index(b"\n", whole.index(b'"type":"turn"')) + 1
    later = [turn(0, "z", rollout="later"), turn(1, "z", "ok", "y", rollout="later")]
    for cut in range(turns + 1, len(whole)):
        if whole[cut:].startswith(b"\n"):
            continue  # all of the line is there: see below
        file.write_bytes(whole[:cut])
        left = whole[:cut].count(b"\n")
        record(file, *later)
        (one, other), named = damages(file)
        assert len(one) == whole[: whole.rindex(b"\n", 0, cut) + 1].count(b'{"type":"turn"')
        assert not one.sealed
        assert list(other) == later
        assert other.sealed
        assert named == ([] if whole[:cut].endswith(b"\n") else [str(left + 1)])


def test_a_line_that_lacks_its_newline_alone_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "a"))
    file.write_bytes(file.read_bytes()[:-1])
    assert [trace.sealed for trace in read_traces(file)] == [True]
    record(file, turn(0, "z", rollout="later"))
    assert [trace.sealed for trace in read_traces(file)] == [True, True]


def test_the_line_of_a_living_program_behind_the_cut_line_of_a_killed_one_is_read(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "a"), turn(1, "a", "ok", "b"))
    *head, second, seal = file.read_bytes().splitlines(keepends=True)
    first = b"".join(head)
    damaged = str(len(head) + 1)
    record(tmp_path / "other.jsonl", turn(0, "z", rollout="other"), turn(1, "z", "ok", "y", rollout="other"))
    lines = (tmp_path / "other.jsonl").read_bytes().splitlines(keepends=True)
    for cut in range(1, len(second)):
        file.write_bytes(first + second[:cut] + b"".join(lines))
        (one, other), named = damages(file)
        assert (len(one), one.sealed, len(other), other.sealed) == (
            (2, False, 2, True) if cut == len(second) - 1 else (1, False, 2, True)
        )
        assert named == ([] if cut == len(second) - 1 else [damaged])
    file.write_bytes(
        first + second[:40] + second[:50] + seal[:-9] + b"".join(lines)
    )  # three were killed at once
    (one, other), named = damages(file)
    assert (len(one), other.sealed, named) == (1, True, [damaged])


def test_a_program_that_is_at_work_begins_on_a_new_line_too(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"

    async def main() -> None:
        recorder = JSONLRecorder(file)
        await recorder.record(turn(0, "a"))
        with file.open("ab") as killed:
            killed.write(b'{"type":"turn","version":2,"tur')
        await recorder.record(turn(1, "a", "ok", "b"))
        await recorder.aclose()

    run(main)
    (damaged,) = [
        str(number) for number, line in enumerate(file.read_bytes().splitlines(), 1) if line.endswith(b'"tur')
    ]
    (trace,), named = damages(file)
    assert (len(trace), named) == (2, [damaged])


BIG = """
    import os, sys, trio
    from tests.trace.test_trace import turn
    from triocept import JSONLRecorder, Trace
    from triocept._trace.trace import TraceWriter

    async def main():
        recorder, trace, name = JSONLRecorder(sys.argv[1]), Trace(sys.argv[2]), sys.argv[2]
        for number in range(int(sys.argv[3])):
            each = turn(number, f"{number} " + "x" * 2_000_000, rollout=name)
            await recorder.record(each)
            TraceWriter(trace).add(each)
            print(number, flush=True)
        await recorder.seal(trace)

    trio.run(main)
"""


@pytest.mark.once
def test_whatever_is_killed_in_mid_write_the_file_goes_on(tmp_path: Path) -> None:
    """Turns of 2 MB: one SIGKILL in five or so cuts one. Each program appends behind the last."""
    file, kills, seen = tmp_path / "t.jsonl", 12, dict[str, int]()
    for number in range(kills):
        with program(tmp_path, BIG, file, f"r{number}", 10_000) as process:
            told = [output(process).readline() for _ in range(2)]
            process.send_signal(signal.SIGKILL)
            seen[f"r{number}"] = len(told + output(process).readlines())
    with program(tmp_path, BIG, file, "last", 2) as process:
        assert process.wait(timeout=60) == 0
    traces, named = damages(file)
    assert [trace.rollout for trace in traces] == [*seen, "last"]
    assert all(len(trace) >= seen[trace.rollout] and not trace.sealed for trace in traces[:-1])
    assert [len(texts(each)[0]) for each in traces[-1]] == [2_000_002] * 2
    assert traces[-1].sealed
    assert len(named) <= kills


# Damage


def test_a_damaged_line_is_named_and_so_is_each_turn_whose_messages_stood_in_it(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(
        file,
        turn(0, "a"),
        turn(0, "z", rollout="other"),
        turn(1, "a", "ok", "b"),
        turn(2, "a", "ok", "c"),
        turn(3, "a", "ok", "b", "ok", "d"),
    )
    lines = file.read_bytes().splitlines(keepends=True)
    numbers = {
        text: 1 + next(n for n, line in enumerate(lines) if b'"text":"%b"' % text.encode() in line)
        for text in ("a", "b", "d")
    }
    lines[numbers["b"] - 1] = lines[numbers["b"] - 1].replace(b'"text"', b'"te', 1)
    file.write_bytes(b"".join(lines))
    (one, other), named = damages(file)
    assert [texts(each) for each in one] == [["a"], ["a", "ok", "c"]]
    assert not one.sealed
    assert other.sealed
    intents = [
        n for n, line in enumerate(lines, 1) if line.startswith(b'{"type":"intent"') and b'"r"' in line
    ]
    turns = [n for n, line in enumerate(lines, 1) if line.startswith(b'{"type":"turn"') and b'"r"' in line]
    assert named == [
        str(number) for number in sorted([numbers["b"], intents[1], turns[1], intents[3], turns[3]])
    ], "a message, and the calls that held it"


@pytest.mark.parametrize("bit", range(8))
def test_whatever_bit_of_a_line_is_flipped_the_other_lines_are_read(tmp_path: Path, bit: int) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "z", rollout="other"))
    others = file.read_bytes()
    (other,) = read_traces(file)
    file.unlink()
    record(file, turn(0, "a"))
    line = bytearray(file.read_bytes().splitlines(keepends=True)[-2])
    for place in range(len(line)):
        line[place] ^= 1 << bit
        file.write_bytes(line + others)
        try:
            traces, _ = damages(file)
        except DialectError as exc:
            assert "the line was written by a newer triocept" in str(exc)
        else:
            assert other in traces
        line[place] ^= 1 << bit


@pytest.mark.parametrize("kind", ["blob", "intent", "turn"])
def test_a_byte_that_is_no_text_costs_its_line_alone(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "z", rollout="other"))
    others = file.read_bytes()
    (other,) = read_traces(file)
    file.unlink()
    record(file, turn(0, "a"))
    head, line, rest = next(
        (b"".join(lines[:number]), line, b"".join(lines[number + 1 :]))
        for lines in [file.read_bytes().splitlines(keepends=True)]
        for number, line in enumerate(lines)
        if line.startswith(b'{"type":"%b"' % kind.encode())
    )
    for place in range(len(line) - 1):
        file.write_bytes(head + line[:place] + b"\xd0" + line[place:] + rest + others)
        assert other in damages(file)[0]


def test_a_line_that_cannot_be_read_is_told_as_a_warning_or_to_whoever_asks(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "a"))
    with file.open("ab") as out:
        out.write(b'{"type":"song"}\n\n  \n\0\0\0\n')
    with pytest.warns(
        UserWarning, match=r"t\.jsonl:(6|9): this line does not belong to a triocept trace"
    ) as told:
        (trace,) = read_traces(file)
    assert trace.sealed
    assert len(told) == 2
    assert {each.filename for each in told} == {__file__}

    def raise_it(error: DialectError) -> None:
        raise error

    with pytest.raises(DialectError, match=r"t\.jsonl:6"):
        read_traces(file, on_damage=raise_it)


def test_a_file_of_something_else_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DialectError, match=r"t\.jsonl: this is not a trace file: its first line is 'a,b'"):
        read_traces(file)
    file.write_bytes(b"")
    assert read_traces(file) == []


def test_a_file_of_a_newer_version_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record(file, turn(0, "a"))
    with file.open("ab") as out:
        out.write(b'{"type":"intent","version":3,"rollout":"r","seq":1}\n')
    with pytest.raises(
        DialectError, match=r"t\.jsonl:6: the line was written by a newer triocept \(format 3\)"
    ):
        read_traces(file)


def test_a_turn_that_stands_twice_is_one(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    turns = [replaced(each, run="n") for each in growing(3)]
    record(file, *turns)
    lines = file.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith(b'{"type":"turn"'))
    file.write_bytes(b"".join([*lines[: at + 2], lines[at], *lines[at + 2 :]]))
    (trace,), named = damages(file)
    assert list(trace) == turns
    assert named == [str(at + 3)]


# Whose line it is


def replaced(each: Turn, **changes: object) -> Turn:
    return msgspec.structs.replace(each, **changes)


def growing(count: int, first: str = "a", **more: str) -> list[Turn]:
    said = [first]
    turns = []
    for number in range(count):
        turns.append(turn(number, *said, **more))
        said += ["ok", f"{first}{number}"]
    return turns


async def play(rollout: Rollout, word: str, other: Rollout | None = None) -> None:
    """Two turns of one conversation; those of another rollout between them."""
    for text in (word, f"{word} again"):
        await ask(rollout, text)
        if other is not None:
            await ask(other, f"not {text}")


@pytest.mark.parametrize("shared", [True, False], ids=["one recorder", "two recorders"])
def test_two_open_rollouts_of_one_id_are_two_traces(tmp_path: Path, shared: bool) -> None:
    file, found = tmp_path / "t.jsonl", list[Trace]()

    async def main() -> None:
        first = JSONLRecorder(file)
        second = first if shared else JSONLRecorder(file)
        async with (
            serve_endpoint(recorder=first) as here,
            serve_endpoint(recorder=second) as there,
            here.open_rollout(say_ok, id="r") as one,
            there.open_rollout(say_ok, id="r") as other,
        ):
            await play(one, "a", other)
            async with other.open_child(say_ok, id="child") as child:
                await ask(child, "b")
        found.extend([one.trace, other.trace, child.trace])

    run(main)
    assert found[0].run != found[1].run
    assert read_traces(file) == found
    assert all(trace.sealed for trace in read_traces(file))


def test_two_epochs_of_one_id_are_two_traces(tmp_path: Path) -> None:
    file, found = tmp_path / "t.jsonl", list[Trace]()

    async def main() -> None:
        async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
            for epoch in range(2):
                async with endpoint.open_rollout(say_ok, id="r") as rollout:
                    await play(rollout, f"epoch {epoch}")
                    async with rollout.open_child(say_ok, id="child") as child:
                        await ask(child, f"child of {epoch}")
                found.append(rollout.trace)

    run(main)
    one, its_child, other, child = read_traces(file)
    assert [one, other] == found
    assert (list(one.children), list(other.children)) == ([its_child], [child])
    assert all(trace.sealed for trace in (one, other, child))


OTHER = """
    import sys, trio
    from tests.asking import ask
    from triocept import JSONLRecorder, serve_endpoint

    async def answer(exchange):
        await exchange.respond("ok")

    async def main():
        async with serve_endpoint(recorder=JSONLRecorder(sys.argv[1])) as endpoint:
            async with endpoint.open_rollout(answer, id="r") as rollout:
                for line in sys.stdin:
                    await ask(rollout, line)
                    print("asked", flush=True)

    trio.run(main)
"""


def test_one_id_in_two_programs_is_two_traces(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    with program(tmp_path, OTHER, file) as process:
        asked: list[str] = []

        async def main() -> None:
            async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
                async with endpoint.open_rollout(say_ok, id="r") as rollout:
                    for number in range(3):
                        await ask(rollout, f"mine {number}")
                        process.stdin.write(f"theirs {number}\n")
                        process.stdin.flush()
                        asked.append(output(process).readline())

        run(main)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    traces = read_traces(file)
    assert {tuple(texts(each)[-1].strip() for each in trace) for trace in traces} == {
        ("mine 0", "mine 1", "mine 2"),
        ("theirs 0", "theirs 1", "theirs 2"),
    }
    assert all(trace.sealed for trace in traces)


OF_FORMAT_1 = (
    b'{"type":"turn","version":1,"turn":{"number":0},"conversation":[[0,1]],"first":0,"new":[]}\n'
    b'{"type":"seal","version":1,"rollout":"old","run":"x","turns":1}\n'
)
"""Lines as 0.2.0 wrote them, in short."""


@pytest.mark.parametrize(
    "read", [read_traces, lambda path: list(iter_traces(path))], ids=["all", "one by one"]
)
def test_a_file_of_format_1_is_an_error_that_names_the_version_that_reads_it(
    tmp_path: Path, read: Callable[[Path], list[Trace]]
) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(OF_FORMAT_1)
    with (
        warnings.catch_warnings(),
        pytest.raises(
            DialectError, match=r"t\.jsonl:1: the line has format 1, which triocept 0\.2\.0 can read"
        ),
    ):
        warnings.simplefilter("ignore")
        read(file)


def test_what_a_newer_program_appends_to_a_file_of_format_1_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(OF_FORMAT_1)
    record(file, *growing(3))
    (trace,), lines = damages(file)
    assert trace.sealed
    assert lines == ["1", "2"]
    (gap,) = check(file).gaps
    assert (gap.name, gap.line) == ("old_format", 1)


# What cannot be written

LIMITED = """
    import resource, sys, trio
    from tests.trace.test_file import growing, turn
    from triocept import JSONLRecorder, Trace

    async def main():
        recorder, trace = JSONLRecorder(sys.argv[1]), Trace("r")
        turns = growing(4)
        await recorder.record(turns[0])
        size = recorder.path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        for each in turns[1:3]:
            try:
                await recorder.record(each)
            except OSError as exc:
                print(repr(exc.filename), exc, flush=True)
        sys.stdin.readline()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await recorder.record(turns[3])
        await recorder.aclose()

    trio.run(main)
"""


def test_a_line_for_which_there_was_no_room_costs_itself_alone_and_no_line_of_another_program(
    tmp_path: Path,
) -> None:
    file = tmp_path / "t.jsonl"
    with program(tmp_path, LIMITED, file) as process:
        told = [output(process).readline() for _ in range(2)]
        record(file, *growing(2, "z", rollout="other"))
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert told == [f"{str(file)!r} [Errno {errno.EFBIG}] File too large: {str(file)!r}\n"] * 2
    (one, other), named = damages(file)
    assert list(other) == growing(2, "z", rollout="other")
    assert other.sealed
    assert [texts(each) for each in one] == [texts(growing(4)[number]) for number in (0, 3)]
    assert len(named) == 1


def test_a_write_that_is_interrupted_is_done_again_and_what_is_behind_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.jsonl"
    real_write, interrupted = os.write, [False]
    record(tmp_path / "other.jsonl", *growing(2, "z", rollout="other"))
    others = (tmp_path / "other.jsonl").read_bytes()

    def write(fd: int, data: bytes) -> int:
        """Half of it, as a file system may do; and at once another program appends."""
        if interrupted[0]:
            return real_write(fd, data)
        interrupted[0] = True
        half = real_write(fd, data[: len(data) // 2])
        with file.open("ab") as other:
            other.write(others)
        return half

    async def main() -> None:
        recorder = JSONLRecorder(file)
        monkeypatch.setattr("triocept._trace.linefile.os.write", write)
        for each in growing(3):
            await recorder.record(each)
        monkeypatch.undo()
        await recorder.aclose()

    run(main)
    (one, other), named = damages(file)
    assert list(one) == growing(3)
    assert list(other) == growing(2, "z", rollout="other")
    assert len(named) == 1


def test_an_error_of_the_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.jsonl"

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        recorder = JSONLRecorder(file, fsync=True)
        await recorder.record(turn(0, "a"))
        monkeypatch.setattr("triocept._trace.linefile.os.fsync", fail)
        with pytest.raises(OSError, match=re.escape(str(file))):
            await recorder.record(turn(1, "a", "ok", "b"))
        await recorder.aclose()

    run(main)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def unwritable(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return {
        "no such folder": tmp_path / "none" / "t.jsonl",
        "a folder": tmp_path / "folder", "a pipe": tmp_path / "pipe", "a full device": Path("/dev/full"),
        "a file as a folder": Path(__file__) / "t.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["no such folder", "a folder", "a pipe", "a full device", "a file as a folder"]
)
def test_a_path_that_cannot_be_written_is_found_before_there_is_an_agent(tmp_path: Path, kind: str) -> None:
    path = unwritable(tmp_path)[kind]
    begun: list[str] = []

    async def start_endpoint() -> None:
        async with serve_endpoint(recorder=JSONLRecorder(path)):
            begun.append("an endpoint")

    async def start_rollout() -> None:
        async with serve_endpoint() as endpoint:
            with pytest.raises(OSError, match=re.escape(str(path))) as caught:
                async with endpoint.open_rollout(say_ok, id="r", recorder=JSONLRecorder(path)):
                    begun.append("a rollout")
            assert isinstance(caught.value, OSError)
            async with endpoint.open_rollout(say_ok, id="r") as rollout:  # the id is free again
                await ask(rollout, "a")

    before = descriptors()
    with pytest.raises(OSError, match=re.escape(str(path))):
        run(start_endpoint)
    run(start_rollout)
    assert begun == []
    assert descriptors() == before


def test_a_rollout_of_its_own_recorder_leaves_no_descriptor(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve_endpoint() as endpoint:
            recorder = JSONLRecorder(tmp_path / "t.jsonl")
            for number in range(3):
                async with endpoint.open_rollout(say_ok, recorder=recorder) as rollout:
                    for _ in range(number):
                        await ask(rollout, "a")
                assert descriptors_of(tmp_path) == set()

    run(main)
    assert [len(trace) for trace in read_traces(tmp_path / "t.jsonl")] == [0, 1, 2]


def descriptors_of(folder: Path) -> set[str]:
    """Of files in a folder."""
    found = set()
    for number in descriptors():
        with suppress(OSError):  # closed by now
            if os.readlink(f"/proc/self/fd/{number}").startswith(str(folder)):
                found.add(number)
    return found


# Several programs at once

APPENDER = """
    import itertools, signal, sys, time, trio
    from tests.trace.test_trace import turn
    from triocept import JSONLRecorder, Trace
    from triocept._trace.trace import TraceWriter

    async def main():
        recorder, trace, name = JSONLRecorder(sys.argv[1]), Trace(sys.argv[2]), sys.argv[2]
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.monotonic() + float(sys.argv[3])
        for number in itertools.count():
            if time.monotonic() > end:
                break
            size = 1 << number % 18
            each = turn(number, name, *(["x" * size] * (number % 3)), f"{number}", rollout=name)
            await recorder.record(each)
            TraceWriter(trace).add(each)
        signal.setitimer(signal.ITIMER_REAL, 0)
        await recorder.seal(trace)
        print(len(trace), flush=True)

    trio.run(main)
"""


FORKED = """
    import os, sys
    from pathlib import Path
    from triocept._trace.linefile import LineFile

    file = LineFile(Path(sys.argv[1]))
    file.append(b"a line\\n")
    if (pid := os.fork()) == 0:
        os.lseek(file.open(), 0, os.SEEK_SET)
        os._exit(0)
    os.waitpid(pid, 0)
    print(os.lseek(file.open(), 0, os.SEEK_CUR), file.look())
"""


def test_a_fork_opens_the_file_itself_and_moves_no_place_of_its_parent(tmp_path: Path) -> None:
    with program(tmp_path, FORKED, tmp_path / "t.jsonl") as process:
        told, _ = process.communicate(timeout=60)
    assert told == "7 1\n"


def test_programs_that_append_at_once_write_whole_lines_through_a_storm_of_signals(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    seconds = float(os.environ.get("TRIOCEPT_APPEND_SECONDS", "1"))
    with (
        program(tmp_path, APPENDER, file, "one", seconds) as one,
        program(tmp_path, APPENDER, file, "other", seconds) as other,
    ):
        counts = {name: int(output(process).readline()) for name, process in (("one", one), ("other", other))}
    traces = read_traces(file)
    assert {trace.rollout: len(trace) for trace in traces} == counts
    assert all(trace.sealed for trace in traces)
    assert b"\n\n" not in file.read_bytes()


# A file that does not stay where it is


def remove(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    file.unlink()
    file.touch()


def rotate(file: Path) -> None:
    file.rename(file.with_suffix(".1"))


def cut_off(file: Path) -> None:
    os.truncate(file, 0)


def cut_off_and_grown(file: Path) -> None:
    """By another program, say, that writes on."""
    os.truncate(file, 0)
    file.write_bytes(b"{}\n" * 10_000)


@pytest.mark.parametrize("lose", [remove, replace, rotate, cut_off, cut_off_and_grown])
def test_a_file_that_was_removed_or_replaced_costs_no_turn_that_comes_afterwards(
    lose: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "t.jsonl"

    async def main() -> None:
        recorder = JSONLRecorder(file)
        async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(say_ok) as rollout:
            await ask(rollout, "one")
            lose(file)
            await ask(rollout, "two")
            await ask(rollout, "one")

    run(main)
    assert f"{file} was removed, renamed, replaced or truncated" in caplog.text
    if lose is cut_off_and_grown:
        file.write_bytes(file.read_bytes().replace(b"{}\n", b""))
    (trace,) = read_traces(file)
    assert [texts(each) for each in trace] == [["two"], ["one"]]
    assert not trace.sealed, "the first turn is not in there"
    if lose is rotate:
        whole = tmp_path / "whole.jsonl"
        whole.write_bytes(file.with_suffix(".1").read_bytes() + file.read_bytes())
        (trace,) = read_traces(whole)
        assert [texts(each) for each in trace] == [["one"], ["two"], ["one"]]
        assert trace.sealed


def test_a_file_that_was_removed_is_made_anew_when_a_rollout_begins_and_when_one_ends(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"

    async def main() -> None:
        recorder = JSONLRecorder(file)
        async with serve_endpoint(recorder=recorder) as endpoint:
            async with endpoint.open_rollout(say_ok, id="cut") as rollout:
                await ask(rollout, "one")
                file.unlink()
                async with endpoint.open_rollout(say_ok):
                    assert file.exists()
                file.unlink()

    run(main)
    (trace,) = read_traces(file)
    assert (trace.rollout, len(trace), trace.sealed) == ("cut", 0, False)


def test_a_directory_that_was_removed_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    file = folder / "t.jsonl"

    async def main() -> None:
        async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
            with pytest.raises(FileNotFoundError, match=str(file)):
                async with endpoint.open_rollout(say_ok) as rollout:
                    await ask(rollout, "one")
                    file.unlink()
                    folder.rmdir()
                    await ask(rollout, "two")

    run(main)


def test_a_recorder_that_is_closed_in_mid_run_leaves_whole_turns_in_another_file(tmp_path: Path) -> None:
    """Whatever that file is: a number of a file that was closed may be used again."""
    file = tmp_path / "t.jsonl"

    async def main() -> None:
        recorder = JSONLRecorder(file)
        await recorder.record(turn(0, "one"))
        await recorder.aclose()
        file.unlink()
        await recorder.record(turn(1, "one"))
        await recorder.aclose()

    run(main)
    (trace,) = read_traces(file)
    assert [texts(each) for each in trace] == [["one"]]
