"""What is said of a call that is not recorded; and keys, which are in no file and no message."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.testing.recorded_agents import asking, asks, real_model
from triocept import Exchange, Message, Refusal, Request, Response, Text, Tool, ToolCall, UpstreamError
from triocept._trace.redaction import Redactor
from triocept._util.secrets import environment_keys
from triocept.errors import RecordingFailed, ReplayMiss
from triocept.testing import Cassette, forward_to, open_cassette
from triocept.traces import Redaction
from triocept.types import Blob, PartDelta, Reasoning

ALL = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")


async def echo(exchange: Exchange) -> None:
    await exchange.respond(f"you said {exchange.request.last.text}")


async def missing(
    path: Path, request: Request, *, dialect: str = "openai_chat", **options: Any
) -> ReplayMiss:
    """The error of a call that is not recorded."""
    cassette = Cassette(path, **options)
    with pytest.raises(ReplayMiss) as raised:
        await asking(cassette, request, dialect=dialect)
    return raised.value


def told(prompt: str, question: str = "Which city?", *tools: Tool) -> Request:
    messages = (Message("system", (Text(prompt),)), Message("user", (Text(question),)))
    return asks(messages=messages, tools=tools)


PROMPT = "You are a guide.\nYou know all cities.\nBe brief."
TOOL = Tool(name="map", description="Shows a map.", parameters={"type": "object", "properties": {"q": {}}})


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A cassette with two calls."""
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("something else altogether"), told(PROMPT, "Which city?", TOOL))
    return path


async def test_a_miss_shows_the_closest_where_they_part_and_what_to_do(path: Path) -> None:
    error = await missing(path, told(PROMPT.replace("all", "some"), "Which city?", TOOL))
    text = str(error).replace(error.args[0].split()[8], "ROLLOUT")
    assert text.startswith(
        f"no recorded call matches a call of rollout ROLLOUT (openai_chat, model 'm'), in {path}. "
        f"The closest of its 2 calls is call 2 ({path}:20) (- recorded, + received):\n"
        "@@ -3,5 +3,5 @@\n"
        "    - system: |-\n"
        "        You are a guide.\n"
        "-       You know all cities.\n"
        "+       You know some cities.\n"
        "        Be brief.\n"
        "    - user: Which city?\n"
        "If the application has changed, record the call: --triocept-record=new keeps the recorded calls"
    )
    assert error.closest == "2"
    assert error.difference.count("\n") == 6


async def test_a_miss_says_the_same_in_every_dialect(path: Path) -> None:
    said = {
        (await missing(path, told(PROMPT, "Which town?", TOOL), dialect=dialect)).difference
        for dialect in ALL
    }
    assert len(said) == 1
    assert "- user: Which city?\n+   - user: Which town?" in said.pop()


async def test_a_tool_that_is_described_otherwise_is_shown(path: Path) -> None:
    other = Tool(name="map", description="Draws a map.", parameters=TOOL.parameters)
    error = await missing(path, told(PROMPT, "Which city?", other))
    assert "-     description: Shows a map.\n+     description: Draws a map." in error.difference


async def test_long_lines_are_shown_from_where_they_part(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    long = "word " * 2000
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks(f"{long}old{long}"))
    error = await missing(path, asks(f"{long}new{long}"))
    assert "word old" in error.difference
    assert "word new" in error.difference
    assert max(map(len, error.difference.splitlines())) < 200


async def test_a_difference_is_shown_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("\n".join(f"a {number}" for number in range(5000))))
    error = await missing(path, asks("\n".join(f"b {number}" for number in range(5000))))
    assert len(error.difference.splitlines()) < 70
    assert error.difference.endswith("… and more")


@pytest.mark.once
async def test_a_difference_of_long_calls_is_found_in_seconds(tmp_path: Path) -> None:
    """Lines that stand there often take a matcher quadratic time: 32 s, for these."""
    path = tmp_path / "run.yaml"
    lines = ["the same"] * 20_000
    async with open_cassette(path, record="once", upstream=echo) as cassette:
        await asking(cassette, asks("\n".join(lines)))
    lines[100] = lines[15_000] = "another"
    begun = time.process_time()
    error = await missing(path, asks("\n".join(lines)))
    assert time.process_time() - begun < 8
    assert "@@ -102," in error.difference


SECRET = "sk-proj-abcdefghijklmnop1234567890"
KEYS = [
    SECRET,
    "sk-ant-api03-AbCdEf_123456789012345-xyz",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "gsk_abcdefghijklmnop1234567890",
    "xoxb-1234567890-abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
]
NO_KEYS = [
    "task-force-1-of-the-united-nations", "sk-learn", "sk-learn-is-a-very-long-name-of-it", "a risk-12",
    "task-0123456789abcdef0123456789abcdef", "a task-proj-2026-11-27-of-the-north",
    "half_a_dozen_of_one_and_six_of_the_other_1", "the \\u0041pple, and sk\\u002dlearn",
    r"C:\users\u0073k\new", "AKIA", "",
]  # fmt: skip


def finder() -> Redactor:
    return Redactor(Redaction(known_keys=True), keys=environment_keys())


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_known_kind_is_found(key: str) -> None:
    assert finder().text(f"use '{key}', please") == "use '[redacted]', please"
    assert finder().json({"a": [f"{key}"]}) == {"a": ["[redacted]"]}


@pytest.mark.parametrize("text", NO_KEYS)
def test_what_is_no_key_stays(text: str) -> None:
    assert finder().text(text) == text


def test_a_key_of_the_environment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "zq8w7e6r5t4y3u2i1o")
    monkeypatch.setenv("DB_PASSWORD", "postgres")
    monkeypatch.setenv("SORT_KEY", "the-name-of-a-column")
    monkeypatch.setenv("MAX_TOKENS", "10000000000000000000")
    assert finder().text("zq8w7e6r5t4y3u2i1o on postgres, the-name-of-a-column, 10000000000000000000") == (
        "[redacted] on postgres, the-name-of-a-column, 10000000000000000000"
    )
    blobs = Blob("x", "signature", "abczq8w7e6r5t4y3u2i1oabc"), Blob("x", "signature", SECRET)
    kept = finder().response(Response((Reasoning("?", blobs),))).content[0]
    assert kept == Reasoning(
        "?", (Blob("x", "signature", "abc[redacted]abc"), Blob("x", "signature", SECRET))
    )


async def test_no_key_is_in_a_file_wherever_it_was_said(tmp_path: Path) -> None:
    async def leak(exchange: Exchange) -> None:
        if exchange.request.messages[0].text == "fail":
            raise UpstreamError(f"no: {SECRET}", status=401, body=f'{{"error":{{"message":"{SECRET}"}}}}')
        parts = (
            Reasoning(f"{SECRET}?", (Blob("x", "signature", "c2ln"),)),
            Text(f"It is {SECRET}.", {"note": SECRET}),
            ToolCall.of("login", key=SECRET),
        )
        await exchange.respond(Response(parts, extra={"seen": SECRET}))

    path = tmp_path / "run.yaml"
    tool = Tool(name="login", description=f"With {SECRET}.")
    async with open_cassette(path, record="once", upstream=leak, record_auth_errors=True) as cassette:
        await asking(cassette, asks(f"Log in with {SECRET}", tools=(tool,)), asks("fail"))
    text = path.read_text()
    assert "sk-proj" not in text
    assert text.count("[redacted]") == 9
    async with open_cassette(path) as cassette:  # with another key it is asked the same
        request = asks("Log in with sk-test-1234567890abcdefghij", tools=(tool,))
        (heard,) = await asking(cassette, request)
        assert heard.response.text == "It is [redacted]."
    error = await missing(path, asks(f"Log out with {SECRET}"))
    assert "sk-proj" not in str(error)


@pytest.mark.parametrize("before", [r"\n", r"\t", r"\u00e9", "%3D", "%20", "="])
def test_a_key_behind_an_escape_is_found(before: str) -> None:
    assert finder().text(f"https://a/?b{before}{SECRET}") == f"https://a/?b{before}[redacted]"
    assert finder().text(f"de{SECRET}") == f"de{SECRET}"


@pytest.mark.parametrize("key", [
    "sk-ant-api03-AbCdEf_123456789012345-xyz",
    "sk-abcdefghij1234567890T3BlbkFJabcdefghij1234567890",
    "sk-proj-" + "aB3_" * 20,
    "sk-or-v1-" + "0123456789abcdef" * 4,
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "glpat-abcdefghij1234567890",
    "xoxb-1234567890-abcdefghijklmnopqrst",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
])  # fmt: skip
def test_a_key_that_is_glued_to_a_word_is_found_where_nothing_else_looks_so(key: str) -> None:
    assert finder().text(f"mytoken{key} is it") == "mytoken[redacted] is it"


@pytest.mark.parametrize("before", ["", "the key: ", "\\n", "(", '{"a": "'])
def test_a_key_whose_letters_are_numbers_is_found_in_prose(before: str) -> None:
    some = SECRET.replace("s", r"\u0073", 1).replace("-", r"\u002D")
    every = "".join(f"\\u{ord(letter):04x}" for letter in SECRET)
    for key in (some, every):
        assert finder().text(f"{before}{key}, you see") == f"{before}[redacted], you see"


async def test_the_pieces_of_an_answer_are_counted_without_its_keys(tmp_path: Path) -> None:
    said = ["It is ", "sk-proj-abcdefgh", "ijklmnop1234567890", " now, an", "d ", SECRET, "."]

    async def leak(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for piece in said:
                await stream.send(piece)

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=leak) as cassette:
        await asking(cassette, asks(), stream=True)
    text = path.read_text()
    assert "content: It is [redacted] now, and [redacted].\n" in text
    assert "characters: [6, 10, 8, 2, 10, 1]\n" in text
    async with open_cassette(path) as cassette:
        (heard,) = await asking(cassette, asks(), stream=True)
    pieces = [event.text for event in heard.events if isinstance(event, PartDelta)]
    assert pieces == ["It is ", "[redacted]", " now, an", "d ", "[redacted]", "."]


async def test_no_key_is_in_a_file_where_letters_are_numbers_or_in_a_code(tmp_path: Path) -> None:
    numbers = "".join(f"\\u{ord(letter):04x}" for letter in SECRET)
    words = f'{{"error":{{"message":"{numbers}"}}}}'
    answers: dict[str, Response | Refusal | UpstreamError] = {
        "refused": Refusal(400, "no", code=SECRET),
        "failed": UpstreamError("no", status=400, body=words, code=SECRET, dialect="openai_chat"),
        "called": Response((ToolCall("login", f'{{"key": "{numbers}", "name": "Zo\\u00eb"}}'),)),
        "said": Response((Text("x"),), model=f"m {SECRET}", stop_sequence=SECRET),
    }

    async def leak(exchange: Exchange) -> None:
        answer = answers[exchange.request.messages[0].text]
        if isinstance(answer, Exception):
            raise answer
        await exchange.respond(answer)

    path = tmp_path / "run.yaml"
    async with open_cassette(path, record="once", upstream=leak) as cassette:
        await asking(cassette, *map(asks, answers))
    text = path.read_text()
    assert SECRET not in text
    assert numbers not in text
    assert text.count("[redacted]") == 6


async def test_the_key_of_the_model_that_is_recorded_is_in_no_file_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    key = "a-local-key-of-nobody"
    async with real_model(echo) as model:
        upstream = forward_to(model.url, dialect="openai_chat", api_key=key)
        with pytest.raises(RecordingFailed) as raised:
            async with open_cassette(path, record="once", upstream=upstream) as cassette:
                await asking(cassette, asks(f"my key is {key}"))
        async with open_cassette(path, record="new", upstream=upstream, record_auth_errors=True) as cassette:
            (heard,) = await asking(cassette, asks(f"my key is {key}"))
    assert heard.status == 401
    assert "my key is [redacted]" in path.read_text()
    for text in (path.read_text(), repr(upstream), str(raised.value)):
        assert key not in text


async def test_headers_are_in_no_file(path: Path) -> None:
    text = path.read_text().lower()
    assert "bearer" not in text
    assert "content-type" not in text
    assert "user-agent" not in text
