"""The file of a cassette: what is written can be read, by people too; what is wrong with it is told, with its line."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import strategies as some
from triocept import Message, Request, Response, Text, Tool, ToolCall, Usage
from triocept._recording.cassettes.document import (
    Recorded,
    document_of,
    read_document,
    read_file,
    text_of,
    write_file,
)
from triocept._recording.cassettes.request_form import normal_form, restored_form
from triocept._recording.play import Answer, Failure, same_content
from triocept._recording.yaml_writer import write_yaml
from triocept._util.documents import read_yaml
from triocept.errors import DialectError
from triocept.testing import Cassette
from triocept.traces import Increments

odd = st.text(st.sampled_from(" \t\n\rab:#-|>'\"{}[],?&*!%@`\u2028\x85\ufeff\x07é😀~0=<"))
known = st.sampled_from(
    [
        "no",
        "12:30",
        "2026-11-26",
        "1e5",
        "0x1f",
        "---",
        "...",
        "key: value",
        "null",
        "- a",
        "  a\nb",
        "\n\n a",
        *[
            "a\n\n\n",
            "a\n  ",
            "\ta\n",
            "x" * 1500,
            "true",
            "=",
            "<<",
            "1_000",
            ".inf",
            "a: ",
            "a #b",
            "-",
            "?",
        ],
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"])) | odd | known
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_any_json_is_read_as_it_was_written_by_us_and_by_others(value: Any) -> None:
    text = write_yaml(value)
    assert read_yaml(text, "a").json == value
    if not _has_exponents(value):  # YAML 1.1 wants a point in those
        assert yaml.safe_load(text) == value


def _has_exponents(value: Any) -> bool:
    match value:
        case float():
            return "e" in repr(value)
        case dict():
            return any(map(_has_exponents, value.values()))
        case list():
            return any(map(_has_exponents, value))
        case _:
            return False


def test_texts_of_several_lines_are_written_line_by_line() -> None:
    assert write_yaml({"a": ["one \n  two\n", "no", "What's up, doc?"], "numbers": [1, 2]}) == (
        'a:\n  - |\n    one \n      two\n  - "no"\n  - What\'s up, doc?\nnumbers: [1, 2]\n'
    )


answers = st.builds(
    Answer,
    response=st.none() | some.any_response("anthropic_messages"),
    failure=st.builds(
        Failure,
        kind=st.sampled_from(["refusal", "upstream", "truncated", "context_length"]),
        status=st.integers(400, 599),
        message=some.texts,
        retry_after=st.none() | st.floats(0, 1000),
        should_retry=st.none() | st.booleans(),
        code=st.none() | some.names,
        dialect=st.sampled_from(["", "gemini"]),
        body=st.sampled_from(["", "<html>", '{"error":{"message":"é"}}']),
    ),
    hung_up=st.booleans(),
    holds_calls=st.booleans(),
    increments=st.none()
    | st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30
    ).map(
        lambda each: Increments(
            runs=tuple((part, 1) for part, _, _ in each),
            lengths=tuple(length for _, length, _ in each),
            waits=tuple(wait for _, _, wait in each),
        )
    ),
    first_event=st.none() | st.integers(0, 9999).map(lambda number: number / 1000),
    duration=st.integers(0, 9999).map(lambda number: number / 1000),
)


@pytest.mark.once
@given(st.lists(st.tuples(some.any_request("anthropic_messages"), answers), max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_call_is_read_as_it_was_written(calls: list[tuple[Request, Answer]]) -> None:
    recorded = [
        Recorded(number=number + 1, form=normal_form(request), answer=without_ids(answer))
        for number, (request, answer) in enumerate(calls)
    ]
    read = read_document(read_yaml(text_of(document_of(recorded)), "a"))
    assert [call.number for call in read] == [call.number for call in recorded]
    assert [call.form for call in read] == [call.form for call in recorded]
    for now, before in zip(read, recorded, strict=True):
        assert same_content(now.answer, before.answer)
        assert now.answer.increments == before.answer.increments
        assert (now.answer.first_event, now.answer.duration) == (
            before.answer.first_event,
            before.answer.duration,
        )


def without_ids(answer: Answer) -> Answer:
    import msgspec

    if answer.response is None:
        return answer
    content = tuple(
        msgspec.structs.replace(part, id="") if isinstance(part, ToolCall) else part
        for part in answer.response.content
    )
    return msgspec.structs.replace(
        answer, response=msgspec.structs.replace(answer.response, content=content, id="")
    )


def recorded_call(number: int, *said: str, **more: Any) -> Recorded:
    messages = tuple(
        Message("assistant" if place % 2 else "user", (Text(text),)) for place, text in enumerate(said)
    )
    answer = Answer(
        response=Response((Text("ok"),), stop_reason="end", usage=Usage(input_tokens=1, output_tokens=2))
    )
    return Recorded(
        number=number,
        form=normal_form(Request(dialect="", model="m", messages=messages, **more)),
        answer=answer,
    )


def test_a_tool_is_said_once_and_a_conversation_goes_on() -> None:
    tools = (Tool(name="search", description="Searches."), Tool(name="fetch"))
    others = (Tool(name="search", description="Looks."),)
    calls = [
        recorded_call(1, "a", tools=tools),
        recorded_call(2, "a", "ok", "b", tools=tools),
        recorded_call(3, "a", "ok", "b", "ok", "c", tools=others),
    ]
    text = text_of(document_of(calls))
    assert text.split("\n", 1)[1] == (
        """\
cassette: 1
tools:
  fetch: {}
  search:
    description: Searches.
  search (2):
    name: search
    description: Looks.
calls:
  - call: 1
    request:
      model: m
      messages:
        - user: a
      tools: [search, fetch]
    answer:
      content: ok
      stop_reason: end
      usage: {input_tokens: 1, output_tokens: 2}
      seconds: 0.0
  - call: 2
    request:
      model: m
      continues: 1
      messages:
        - assistant: ok
        - user: b
      tools: [search, fetch]
    answer:
      content: ok
      stop_reason: end
      usage: {input_tokens: 1, output_tokens: 2}
      seconds: 0.0
  - call: 3
    request:
      model: m
      continues: 2
      messages:
        - assistant: ok
        - user: c
      tools: [search (2)]
    answer:
      content: ok
      stop_reason: end
      usage: {input_tokens: 1, output_tokens: 2}
      seconds: 0.0
...
"""
    ).replace("[search, fetch]", str_of(text))
    read = read_document(read_yaml(text, "a"))
    assert [call.form for call in read] == [call.form for call in calls]


def str_of(text: str) -> str:
    """Tools stand in the order of their forms."""
    return "[fetch, search]" if "[fetch, search]" in text else "[search, fetch]"


GOOD = """\
cassette: 1
tools:
  search: {description: Searches.}
calls:
  - call: 1
    request:
      model: m
      messages:
        - user: hi
      tools: [search]
    answer:
      content: hello
      seconds: 0.1
  - call: 2
    request:
      model: m
      continues: 1
      messages:
        - assistant: hello
        - user: more
    answer:
      failure: {kind: upstream, status: 429, message: slow}
...
"""

BAD = {
    "nothing": ("", 1, "does not end"),
    "something else": ("a: 1\n...\n", 1, "not a cassette"),
    "a list": ("- 1\n...\n", 1, "not a cassette"),
    "a newer version": (GOOD.replace("cassette: 1", "cassette: 2"), 1,
     "format 2, written by a newer triocept"),
    "no version": (GOOD.replace("cassette: 1", "cassette: one"), 1, "a whole number of at least 1, not a text: 'one'"),
    "an unknown key": (GOOD.replace("content:", "contnet:"), 12,
     "there is no key 'contnet' here; choose one of content"),
    "a wrong type": (GOOD.replace("user: hi", "user: 7"), 9,
     "expected a text or a list, not a number: 7"),
    "a bad role": (GOOD.replace("user: hi", "usr: hi"), 9, "there is no key 'usr' here; choose one of system, user"),
    "a key twice": (GOOD.replace("      model: m\n", "      model: m\n      model: n\n", 1), 8,
     "'model' is defined twice"),
    "a call twice": (GOOD.replace("call: 2", "call: 1"), 14, "the file contains call 1 twice, first on line 5"),
    "no answer": (GOOD[: GOOD.index("    answer:\n      failure")] + "...\n", 14, "this call has no 'answer'"),
    "an empty answer": (GOOD.replace("content: hello", "stop_reason: end"), 11,
     "an answer must have `content`, `failure`"),
    "half a file": (GOOD[: GOOD.index("kind: upstream")], 22, "this is not YAML"),
    "a call behind its end": (GOOD + "  - call: 3\n    request: {messages: []}\n", 24,
     r"there is text after the line `\.\.\.` \(line 23\), which ends the file"),
    "a number as an answer": (GOOD.replace("content: hello", "content: 12"), 12,
     "answer.content: expected a text or a list, not a number: 12; put it in quotes to make it a text"),
    "nothing as a question": (GOOD.replace("user: hi", "user:"), 9, "expected a text or a list, not nothing$"),
    "its end missing": (GOOD.removesuffix("...\n"), 22,
     "does not end with a line `...`: is the rest of the file missing"),
    "its head alone": ("cassette: 1\n...\n", 1, "the file has no `calls`"),
    "marks of a merge": (GOOD.replace("      tools:", "<<<<<<< HEAD\n      tools:"), 10,
     "the file contains an unresolved merge conflict of git"),
    "a tab": (GOOD.replace("      tools:", "\ttools:"), 10, "this is not YAML"),
    "a tool that is not there": (GOOD.replace("[search]", "[serch]"), 10,
     "there is no tool 'serch' among the `tools`"),
    "a call that is not there": (GOOD.replace("continues: 1", "continues: 3"), 17,
     "this call continues call 3, but no call"),
    "a call that comes later": (GOOD.replace("continues: 1", "continues: 2"), 17,
     "this call continues call 2, but no call"),
    "a status of success": (GOOD.replace("429", "200"), 22, "a whole number of at least 400"),
    "no such failure": (GOOD.replace("kind: upstream", "kind: down"), 22,
     "there is no value 'down' here; choose one of refusal"),
    "a stop reason": (GOOD.replace("seconds: 0.1", "stop_reason: done"), 13,
     "there is no value 'done' here; choose one of end"),
    "negative seconds": (GOOD.replace("seconds: 0.1", "seconds: -1"), 13, "number of seconds, not a number: -1"),
    "pieces that do not fit": (GOOD.replace("seconds: 0.1", "characters: [2, 3]\n      waits: [1]"), 13,
     "must hold the same number of pieces"),
    "an anchor": (GOOD.replace("user: hi", "user: &a hi"), 9, "anchors and aliases are not allowed here"),
    "a tag": (GOOD.replace("user: hi", "user: !!python/name:os.system hi"), 9, "a tag .* is not allowed here"),
    "two documents": (GOOD + "---\n" + GOOD, 24, "a second YAML document"),
    "a usage": (GOOD.replace("seconds: 0.1", "usage:\n        input_tokens: 1\n        output_tokens: many"),
     15, r"usage\.output_tokens: expected `int`, got `str`$"),
    "sampling": (GOOD.replace("      model: m\n", "      sampling:\n        temperature: hot\n", 1), 8,
     r"sampling\.temperature: expected `float \| null`, got `str`$"),
    "an output without a schema": (GOOD.replace("      model: m\n", "      model: m\n      output: {}\n", 1),
     8, "this output has no `schema`"),
    "a key that is no text": (GOOD.replace("user: hi", "7: hi"), 9,
     "a key must be a text; to make '7' a text"),
    "nested too deep": ("cassette: 1\ncalls: " + "[" * 5000 + "]" * 5000 + "\n...\n", 2, "nest|YAML"),
    "a control character": (GOOD.replace("hi", "h\x07i"), 9, "this is not YAML"),
    "a NUL": (GOOD.replace("hi", "h\x00i"), 9, "this is not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_its_line(case: str, tmp_path: Path) -> None:
    text, line, words = BAD[case]
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(DialectError, match=words) as raised:
        Cassette(path)
    assert raised.value.path.startswith(f"{path}:{line}"), raised.value
    assert str(raised.value).count(str(path)) == 1
    assert "$." not in str(raised.value)


def test_a_good_one_that_was_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    first, second = Cassette(path).calls
    assert (first.request.messages[0].text, first.response.text) == ("hi", "hello")
    assert first.request.tools == (Tool(name="search", description="Searches."),)
    assert ([message.text for message in second.request.messages], second.error) == (
        ["hi", "hello", "more"],
        "429: slow",
    )


def test_what_is_not_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(GOOD.replace("hello", "h\xe9llo", 1).encode("latin-1"))
    with pytest.raises(DialectError, match=rf"^{path}:12: this is not UTF-8: byte 0xe9"):
        Cassette(path)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="directory"):
        Cassette(tmp_path)


@pytest.mark.parametrize("cut", range(1, len(GOOD) - 4, 7))
def test_a_file_that_was_cut_off_anywhere_is_told(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD[:cut])
    with pytest.raises(DialectError):
        Cassette(path)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.yaml"
    write_file(path, "one")
    os.chmod(path.parent, 0o755)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    write_file(link, "two")
    assert link.is_symlink()
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    write_file(path, "one")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "two")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys
from pathlib import Path
from triocept._recording.cassettes.document import write_file
name, path = sys.argv[1], Path(sys.argv[2])
for _ in range(20):
    write_file(path, name * 300_000)
"""


@pytest.mark.once
def test_of_two_processes_that_write_one_file_the_last_one_wins_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    write_file(path, "a" * 300_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name, str(path)]) for name in "ab"]
    try:
        while any(writer.poll() is None for writer in writers):
            assert len(set(path.read_text())) == 1
            assert path.stat().st_size == 300_000
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(20)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_reading_gives_where_each_call_stands(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    assert [call.line for call in read_file(path, "a")] == [5, 14]


def test_the_file_that_the_documentation_shows_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "cassettes.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    first, second = read_document(read_yaml(f"cassette: 1\n{block}", "page"))
    assert first.answer.increments == Increments(runs=((0, 3),), lengths=(2, 6, 4), waits=(320, 21, 19))
    assert [message.role for message in restored_form(second.form).messages] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert second.answer.failure == Failure(kind="upstream", status=429, message="slow down", retry_after=2.0)
