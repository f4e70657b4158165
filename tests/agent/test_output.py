import pytest

from triocept._process.output import AgentResult, OutputBuffer
from triocept.errors import AgentFailed


@pytest.mark.parametrize("step", [1, 3, 7, 100])
@pytest.mark.parametrize("limit", [0, 1, 2, 9, 10, 1000])
def test_head_and_tail_are_kept_however_the_bytes_come(step: int, limit: int) -> None:
    data = bytes(range(100))
    buffer = OutputBuffer(limit)
    for start in range(0, len(data), step):
        buffer.feed(data[start : start + step])
    if limit >= len(data):
        assert (buffer.content(), buffer.dropped) == (data, 0)
        return
    head, tail = data[: limit // 2], data[len(data) - (limit - limit // 2) :]
    assert buffer.dropped == len(data) - limit
    assert buffer.content() == head + b"\n[... %d bytes dropped ...]\n" % buffer.dropped + tail


def test_a_good_result_checks_to_itself_and_a_bad_one_raises_with_the_end_of_stderr() -> None:
    good = AgentResult(argv=("claude", "-p"), returncode=0, duration=1.5)
    assert good.check() is good
    bad = AgentResult(argv=("claude", "-p"), returncode=2, duration=1.5, stderr_tail="no such model")
    with pytest.raises(AgentFailed, match=r"'claude' returned 2 after 1\.5 s[^$]*no such model") as caught:
        bad.check()
    assert caught.value.returncode == 2
    with pytest.raises(AgentFailed, match="ended by signal 9"):
        AgentResult(argv=("claude",), returncode=-9, duration=0.0).check()


def test_the_repr_of_a_result_shows_no_argument_and_no_output() -> None:
    result = AgentResult(
        argv=("agent", "--key=sk-1"), returncode=0, duration=0.0, stdout=b"sk-2", stderr=b"sk-3"
    )
    assert "sk-" not in repr(result)
