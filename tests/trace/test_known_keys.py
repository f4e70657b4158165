"""Keys that are not in use here are in no record, if the program asks for it and their form is known."""

import base64
import json
import pickle
from pathlib import Path

import pytest

from tests.asking import ask
from triocept import Exchange, JSONLRecorder, Message, Text, ToolCall, ToolResult, read_traces, serve_endpoint
from triocept._trace.redaction import Redactor
from triocept._util.key_forms import key_forms
from triocept._util.secrets import MARK
from triocept.traces import Redaction
from triocept.types import Blob, Media, Opaque, Reasoning

SOME = "aB3xY7zQ9kLm2NpR5sTv8WcD4fGh6JjK1"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SOME}\n{SOME}==\n-----END PRIVATE KEY-----"
KEYS = {
    "GitHub": f"ghp_{SOME}abc",
    "GitHub, of an app": f"ghs_{SOME}abc",
    "GitHub, fine-grained": f"github_pat_{SOME}_{SOME}",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "AWS, for a while": "ASIAIOSFODNN7EXAMPLE",
    "OpenAI": f"sk-proj-{SOME}_{SOME}",
    "OpenAI, older": f"sk-{SOME[:20]}T3BlbkFJ{SOME[:20]}",
    "Anthropic": f"sk-ant-api03-{SOME}-{SOME}AA",
    "Google": f"AIza{SOME}_-",
    "Slack": f"xoxb-123456789012-1234567890123-{SOME[:24]}",
    "PEM": PEM,
    "PEM of a kind": PEM.replace("PRIVATE", "RSA PRIVATE"),
}
ALIKE = [
    "9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "550e8400-e29b-41d4-a716-446655440000",
    "the prefix sk- stands before it; sk-learn, task-sk-1, risk-2026-11-29-of-the-north, desk-0123456789abcdef0123",
    "ghp_ and github_pat_ begin a token, AKIA another, xoxb- a third",
    "MAKIAVELLI AKIAIOSFODNN7EXAMPLEANDMORE",
    "AIzaShort",
    'if "-----BEGIN PRIVATE KEY-----" in text:',
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "call_aB3xY7zQ9kLm2NpR5sTv8WcD, toolu_01A09q90qw90lq917835lq9, msg_01XFDUDYJgAACzvnptvVoYEL",
]
REDACTION = Redaction(known_keys=True)


@pytest.fixture(params=KEYS.values(), ids=KEYS.keys())
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def kept(message: Message, redaction: Redaction | None = REDACTION) -> Message:
    return Redactor(redaction).message(message)


def test_a_key_in_a_message_is_out_and_nothing_beside_it(key: str) -> None:
    message = Message("user", (Text(f"use '{key}', please"),))
    assert kept(message).text == f"use '{MARK}', please"
    assert kept(message, None) is message


def test_a_key_in_the_result_of_a_tool_is_out(key: str) -> None:
    (part,) = kept(Message("user", (ToolResult(id="c1", content=(Text(f"TOKEN={key}\n"),)),))).content
    assert part == ToolResult(id="c1", content=(Text(f"TOKEN={MARK}\n"),))


def test_a_key_in_arguments_is_out_and_they_are_json_as_before(key: str) -> None:
    call = ToolCall("write", json.dumps({"text": f"é {key}", "mode": 7}))
    numbers = "".join(f"\\u{ord(letter):04x}" for letter in key)
    for each in (call, ToolCall("write", f'{{"text": "é {numbers}", "mode": 7}}')):
        (part,) = kept(Message("assistant", (each,))).content
        assert isinstance(part, ToolCall)
        assert part.parsed() == {"text": f"é {MARK}", "mode": 7}


def test_a_private_key_is_out_when_it_is_cut_off_or_its_lines_are_numbered() -> None:
    numbered = "\n".join(f"{number}→{line}" for number, line in enumerate(PEM.split("\n")))
    assert kept(Message("user", (Text(f"{numbered}\n5→"),))).text == f"0→{MARK}\n5→"
    assert kept(Message("user", (Text(PEM[:-40]),))).text == MARK
    call = ToolCall("write", json.dumps({"text": PEM[:-40], "mode": 7}))
    (part,) = kept(Message("assistant", (call,))).content
    assert part == ToolCall("write", f'{{"text": "{MARK}", "mode": 7}}')


def test_a_key_in_a_text_document_is_out(key: str) -> None:
    data = base64.b64encode(f"the key: {key}".encode()).decode()
    (part,) = kept(Message("user", (Media(kind="file", data=data, media_type="text/plain"),))).content
    assert isinstance(part, Media)
    assert base64.b64decode(part.data or "").decode() == f"the key: {MARK}"


def test_a_key_is_out_of_names_of_members_and_of_what_a_dialect_keeps(key: str) -> None:
    parts = Opaque("gemini", {key: [{"data": key}]}), Reasoning(f"hm, {key}", extra={"id": key})
    found = kept(Message("assistant", parts)).content
    assert found == (Opaque("gemini", {MARK: [{"data": MARK}]}), Reasoning(f"hm, {MARK}", extra={"id": MARK}))


def test_base64_is_not_searched_for_forms() -> None:
    blob = f"{KEYS['AWS']}/{KEYS['Google']}+"
    parts = (
        Media(kind="image", data=blob, media_type="image/png"),
        Reasoning("", (Blob("x", "signature", blob),)),
    )
    message = Message("assistant", parts)
    assert kept(message) is message


@pytest.mark.parametrize("text", ALIKE)
def test_what_merely_looks_alike_stays(text: str) -> None:
    message = Message("user", (Text(text), ToolCall("t", json.dumps({"a": text}), "c1")))
    assert kept(message) is message


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_key_over_the_borders_of_increments_is_in_no_record(
    tmp_path: Path, key: str, size: int
) -> None:
    text = f"It is '{key}'."
    file = tmp_path / "t.jsonl"

    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for at in range(0, len(text), size):
                await stream.send(text[at : at + size])

    async with serve_endpoint(recorder=JSONLRecorder(file), redact=REDACTION) as endpoint:
        async with endpoint.open_rollout(answer, record_increments=True) as rollout:
            reply = await ask(rollout, text, stream=True)
    if size > len(text):
        assert json.dumps(key)[1:-1] in reply.text, "the agent has it"
    (turn,) = rollout.trace
    assert turn.response.text == turn.request.messages[0].text == f"It is '{MARK}'."
    assert turn.increments is None, "they count the characters"
    (trace,) = read_traces(file)
    assert trace == rollout.trace


def test_a_program_that_does_not_ask_for_forms_does_not_pay_for_them() -> None:
    key_forms.cache_clear()
    redaction = Redaction(["x"])
    assert Redactor(redaction).text(KEYS["AWS"]) == redaction.text(KEYS["AWS"]) == KEYS["AWS"]
    assert key_forms.cache_info().currsize == 0


def test_forms_and_patterns_go_together() -> None:
    redaction = Redaction([r"\d{16}"], known_keys=True)
    assert redaction.text(f"4111111111111111 {KEYS['AWS']}") == f"{MARK} {MARK}"
    assert repr(redaction) == r"Redaction(['\\d{16}'], known_keys=True)"
    assert pickle.loads(pickle.dumps(redaction)).text(KEYS["GitHub"]) == MARK
    with pytest.raises(TypeError, match="known_keys"):
        Redaction(known_keys=1)  # type: ignore[arg-type]
