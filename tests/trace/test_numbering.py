"""Whatever calls have in common, each conversation is stored as the messages that were sent, to the byte."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triocept._canonical.content import Message, Opaque, Text, ToolCall, ToolResult
from triocept._canonical.memory import equal_messages
from triocept._trace import chain
from triocept._trace.linefile import LineFile
from triocept._trace.numbering import Numbering

encoded = msgspec.json.Encoder().encode
ALIKE = (1, True, 1.0, {"a": 1, "b": 2}, {"a": True, "b": 2}, {"a": 1, "b": 2.0})
"""Python takes some of these for each other; their JSON is not the same. (The order of members is no difference.)"""


def alike(which: int, place: int) -> Message:
    """Return a new message, with one of the values in one of the places that messages have for JSON."""
    value = ALIKE[which]
    match place:
        case 0:
            return Message("user", (Text("x"),), extra={"v": value})
        case 1:
            return Message("user", (Text("x", {"v": value}),))
        case 2:
            return Message("user", (Opaque("d", value),))
        case 3:
            return Message("tool", (ToolResult(id="c", content=(Text("x", {"v": value}),)),))
        case 4:
            return Message("tool", (ToolResult(id="c", content=(Opaque("d", value),)),))
        case _:
            return Message("user", (Text(f'"extra":{which}'),))


MESSAGES = st.builds(alike, st.integers(0, len(ALIKE) - 1), st.integers(0, 5))
CHANGES = st.lists(st.tuples(st.integers(0, 6), st.lists(MESSAGES, max_size=4)), max_size=8)


@given(CHANGES)
@example([(0, [alike(which, place)]) for place in range(6) for which in range(len(ALIKE))])
def test_each_conversation_is_stored_as_it_was_sent_to_the_byte(
    changes: list[tuple[int, list[Message]]],
) -> None:
    numbering = Numbering()
    messages: tuple[Message, ...] = ()
    for kept, new in changes:
        messages = (*messages[:kept], *new, *messages[kept + len(new) :])
        conversation = numbering.of(messages)
        numbers = [number for start, stop in conversation.ranges for number in range(start, stop)]
        assert [encoded(numbering.blobs[number].message) for number in numbers] == [*map(encoded, messages)]
        linked = b""
        for message in messages:
            linked = chain.link(linked, chain.digest_of(encoded(message)))
        assert conversation.digests[-1] == linked


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("which", range(1, len(ALIKE)))
def test_a_message_in_a_long_conversation_that_is_only_equal_is_stored_as_it_was_sent(
    which: int, place: int
) -> None:
    around = [Message("user", (Text(f"{number}"),)) for number in range(80)]
    numbering = Numbering()
    numbering.of((*around[:40], alike(0, place), *around[40:]))
    other = (*around[:40], alike(which, place), *around[40:], around[0])
    stored = numbering.of(other)
    numbers = [number for start, stop in stored.ranges for number in range(start, stop)]
    assert [encoded(numbering.blobs[number].message) for number in numbers] == [*map(encoded, other)]


def test_of_a_conversation_whose_last_message_is_rewritten_only_the_end_is_compared_by_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[Message] = []

    def equal(one: Message, other: Message) -> bool:
        compared.append(one)
        return equal_messages(one, other)

    monkeypatch.setattr("triocept._trace.numbering.equal_messages", equal)
    numbering, said = Numbering(), [Message("assistant", (ToolCall("f", id="c"),)) for _ in range(500)]
    marked, plain = (Message("user", (Text("go", extra),)) for extra in ({"mark": True}, None))
    first = numbering.of((*said, marked))
    assert len(numbering.of((*said, plain, marked)).digests) == len(first.digests) + 1
    assert compared == [plain]


def test_no_line_counts_as_written_if_the_file_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    file = LineFile(path)
    file.append(b"one\ntwo\n")
    file.close()
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.append(b"three\n")
    assert file.whole_lines == 0
    assert file.extent[0] == file.extent[1]
