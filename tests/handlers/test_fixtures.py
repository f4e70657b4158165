"""aimock's fixtures are read and chosen as aimock does that; what is not supported here is told where it stands.

`tests/real_upstreams/test_aimock_fixtures.py` holds them against aimock itself.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.asking import ask, bearer
from triocept import (
    DialectError,
    Message,
    Request,
    Response,
    ScriptedModel,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    serve_endpoint,
)
from triocept.errors import ScriptExhausted
from triocept.handlers import Fixtures, ScriptWarning, Stream, read_embeddings, read_script
from triocept.handlers.script.fixtures import source_of
from triocept.types import Blob, Reasoning


def read(tmp_path: Path, *fixtures: dict[str, Any], **beside: Any) -> Fixtures:
    file = tmp_path / "f.json"
    file.write_text(json.dumps({**beside, "fixtures": fixtures}, indent=1))
    (found,) = read_script(file)
    assert isinstance(found, Fixtures)
    return found


def fixture(response: Any = "x", /, **match: Any) -> dict[str, Any]:
    return {"match": match, "response": {"content": response} if isinstance(response, str) else response}


def asking(*texts: str, **fields: Any) -> Request:
    """A conversation of the user and the model, in turns."""
    roles = ("user", "assistant")
    messages = tuple([Message(roles[number % 2], (Text(text),)) for number, text in enumerate(texts)])  # type: ignore[arg-type]
    return Request(dialect="openai_chat", **{"model": "m", "messages": messages, **fields})


def served(fixtures: Fixtures, *requests: Request) -> list[Any]:
    """What a source gives to these; texts alone."""
    source = source_of(fixtures)
    found = [source.take(request) for request in requests]
    return [
        taken and (taken.reply.text if isinstance(taken.reply, Response) else taken.reply) for taken in found
    ]


def test_the_first_that_matches_answers_each_time(tmp_path: Path) -> None:
    fixtures = read(tmp_path, fixture("a", userMessage="hello"), fixture("b", model="m"), fixture("c"))
    assert served(
        fixtures, asking("hello you"), asking("x"), asking("x", model="o"), asking("hello")
    ) == list("abca")


def test_a_sequence_is_served_once_each_and_then_not(tmp_path: Path) -> None:
    fixtures = read(
        tmp_path,
        fixture("two", userMessage="a", sequenceIndex=1),
        fixture("one", userMessage="a", sequenceIndex=0),
        fixture("other", userMessage="ab", sequenceIndex=0),
    )
    assert served(fixtures, *[asking("ab")] * 4) == ["one", "two", "other", None]


def test_what_was_not_said_is_given_back(tmp_path: Path) -> None:
    source = source_of(read(tmp_path, fixture("one", userMessage="a", sequenceIndex=0)))
    taken = source.take(asking("a"))
    assert taken is not None
    assert source.take(asking("a")) is None
    source.give_back(taken)
    assert source.take(asking("a")) == taken


TURNS: list[tuple[list[dict[str, Any]], list[str], str]] = [
    ([fixture("0", turnIndex=0), fixture("1", turnIndex=1)], ["a", "b", "c"], "1"),
    ([fixture("0", turnIndex=0), fixture("p")], ["a"], "0"),
    ([fixture("p"), fixture("0", turnIndex=0)], ["a"], "p"),
    ([fixture("p"), fixture("0", turnIndex=0)], ["a", "b", "c"], "0"),
    ([fixture("3", turnIndex=3), fixture("p")], ["a"], "p"),
    ([fixture("3", turnIndex=3), fixture("2", turnIndex=2)], ["a"], "2"),
    ([fixture("0", turnIndex=0), fixture("z", turnIndex=0)], ["a"], "0"),
]


@pytest.mark.filterwarnings("ignore::triocept.handlers.ScriptWarning")
@pytest.mark.parametrize(("fixtures", "texts", "wanted"), TURNS)
def test_a_turn_chooses_among_those_that_match(
    fixtures: list[dict[str, Any]], texts: list[str], wanted: str, tmp_path: Path
) -> None:
    assert served(read(tmp_path, *fixtures), asking(*texts)) == [wanted]


def test_a_turn_that_is_not_its_own_is_warned_of_once(tmp_path: Path) -> None:
    source = source_of(read(tmp_path, fixture("0", turnIndex=0)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for texts in (["a"], ["a", "b", "c"], ["a", "b", "c"]):
            assert source.take(asking(*texts)) is not None
    assert [str(each.message).rpartition("/")[2] for each in told] == [
        "f.json:3 was used after 1 answers, although its turnIndex is 0: "
        "turnIndex only chooses among the fixtures that match a request"
    ]


def test_a_result_of_a_tool_is_looked_for_since_the_user_spoke_last(tmp_path: Path) -> None:
    fixtures = read(tmp_path, fixture("yes", hasToolResult=True), fixture("no", hasToolResult=False))
    result = ToolResult(id="c", content=(Text("42"),))
    asked = asking("a", "b")
    for message, wanted in [
        (Message("tool", (result,)), "yes"),
        (Message("user", (result,)), "yes"),
        (Message("user", (result, Text("and"))), "no"),
        (Message("user", (Text("and"),)), "no"),
    ]:
        again = Request(dialect="d", model="m", messages=(*asked.messages, message))
        assert served(fixtures, again) == [wanted]


def test_each_kind_of_answer_is_read(tmp_path: Path) -> None:
    calls = [{"name": "t", "arguments": {"a": 1}}, {"name": "u", "arguments": "{}", "id": "c1"}]
    blocks = [{"type": "toolCall", "name": "t", "arguments": {}}, {"type": "text", "text": "then"}]
    usage = {"input_tokens": 3, "output_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    thought = {"content": "x", "reasoning": "hm", "reasoningSignature": "s", "redactedThinking": ["r"]}
    found = read(
        tmp_path,
        fixture({"content": [1, {"a": None}]}, userMessage="0"),
        fixture({"content": "so", "toolCalls": calls}, userMessage="1"),
        fixture({"blocks": blocks, "content": "then"}, userMessage="2"),
        fixture(thought, userMessage="3"),
        fixture(
            {"content": "x", "usage": usage, "finishReason": "length", "id": "i", "model": "n"},
            userMessage="4",
        ),
        fixture({"content": "x", "usage": {"cost": 0.5}}, userMessage="5"),
    )
    replies = [each.reply for each in found._all]
    signed = Reasoning("hm", (Blob("anthropic_messages", "signature", "s"),))
    redacted = Reasoning("", (Blob("anthropic_messages", "redacted", "r"),))
    assert replies == [
        Response.of('[1,{"a":null}]'),
        Response.of("so", ToolCall.of("t", a=1), ToolCall("u", "{}", "c1")),
        Response.of(ToolCall("t", "{}"), "then"), Response.of(signed, redacted, "x"),
        Response(
            (Text("x"),), "max_tokens",
            usage=Usage(input_tokens=3, output_tokens=4, cached_tokens=2),
            model="n", id="i",
        ),
        Response.of("x"),
    ]  # fmt: skip


PACES: list[tuple[dict[str, Any], list[float]]] = [
    ({"chunkSize": 4}, [0, 0, 0]),
    ({"chunkSize": 4, "latency": 100}, [0.1, 0.1, 0.1]),
    ({"latency": 100}, [0.1]),
    ({"chunkSize": 4, "streamingProfile": {"ttft": 200, "tps": 40, "jitter": 0.1}}, [0.2, 0.025, 0.025]),
    ({"chunkSize": 4, "streamingProfile": {"tps": 40}, "replaySpeed": 2, "latency": 30},
     [0.03, 0.0125, 0.0125]),
    ({"chunkSize": 2, "recordedTimings": {"ttftMs": 50, "interChunkDelaysMs": [10, 30]}},
     [0.05, 0.01, 0.03, 0.02, 0.02]),
    ({"chunkSize": 4, "recordedTimings": {"ttftMs": 50}}, [0.05, 0, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "pauses"), PACES)
def test_the_pace_of_a_fixture_is_that_of_its_answer(
    options: dict[str, Any], pauses: list[float], tmp_path: Path
) -> None:
    (found,) = read(tmp_path, {**fixture("0123456789"), **options})._all
    assert isinstance(found.reply, Stream)
    assert [step.pause for step in found.reply._steps] == pytest.approx(pauses)


async def test_an_error_has_the_words_of_each_dialect(tmp_path: Path) -> None:
    error = {"message": "slow", "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None}
    fixtures = read(tmp_path, fixture({"error": error, "status": 429}))
    async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([fixtures])) as rollout:
        async with httpx2.AsyncClient() as http:
            body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "go"}]}
            url = rollout.base_url("openai_chat") + "/chat/completions"
            one = await http.post(url, headers=bearer(rollout), json=body)
            url = rollout.base_url("anthropic_messages") + "/v1/messages"
            other = await http.post(url, headers=bearer(rollout), json={**body, "max_tokens": 9})
    assert one.headers["retry-after"] == "1"
    assert one.json()["error"]["code"] == "rate_limit_exceeded"
    assert (other.status_code, other.json()["error"]["type"]) == (429, "rate_limit_error")


async def test_a_request_that_no_fixture_is_for_is_told_why(tmp_path: Path) -> None:
    fixtures = read(tmp_path, fixture("a", userMessage="joke", model="o"), fixture("b", userMessage="time"))
    with pytest.raises(ScriptExhausted) as caught:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([fixtures])) as rollout:
            await ask(rollout, "weather")
    _, first, second, *_ = str(caught.value).splitlines()
    assert first.endswith("f.json:12: userMessage 'time' does not match")
    assert second.endswith("f.json:3: userMessage 'joke' does not match; model 'o' does not match")


async def test_fixtures_may_stand_in_a_script_beside_other_things(tmp_path: Path) -> None:
    fixtures = read(tmp_path, fixture("a", userMessage="joke"))
    script = ScriptedModel([fixtures, "first", "second"])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        for text in ("x", "joke", "joke", "x"):
            await ask(rollout, text)
    assert [turn.response.text for turn in rollout.trace if turn.response] == ["first", "a", "a", "second"]
    assert (script.remaining, script.unused) == (0, ())


WRONG: list[tuple[dict[str, Any], str]] = [
    (fixture("x", usrMessage="a"), r"f.json:5: .*match.usrMessage: there is no key 'usrMessage' .*userMessage\?"),
    (fixture("x", userMessage=3), r"f.json:5: fixtures\[0\].match.userMessage: expected `str`"),
    (fixture({"contnt": "x"}), r"f.json:6: fixtures\[0\].response.contnt: .* 'contnt' here; did you mean content\?"),
    (fixture({}), r"f.json:5: fixtures\[0\].response: a response must be a mapping with the fields of an answer"),
    (fixture({"id": "x"}), r"the response is empty: it must have content, toolCalls or blocks"),
    (fixture({"toolCalls": [{"name": "t", "argments": {}}]}), r"f.json:9: .*toolCalls\[0\].argments: .*arguments\?"),
    (fixture({"blocks": [{"type": "txt", "text": "a"}]}), r"f.json:7: .*blocks\[0\]: a block must be"),
    (fixture({"content": "x", "finishReason": "done"}), r"f.json:7: .*finishReason: unknown finishReason 'done'"),
    (fixture({"content": "x", "usage": {"prompt_tokens": "3"}}), r"f.json:7: .*usage: usage must be a mapping"),
    (fixture({"error": {"message": "x", "cod": "y"}}), r"f.json:8: .*response.error.cod: .*code\?"),
    (fixture({"error": {"message": "x"}, "status": 200}), r"f.json:9: .*status: expected `int` >= 400: 200"),
    (fixture({"image": {"url": "x"}}), r"f.json:6: .*response.image: 'image' belongs to an endpoint that"),
    (fixture({"transcription": {"text": "x"}}), "'transcription' belongs to an endpoint"),
    (fixture({"json": {}}), "'json' belongs to an endpoint"),
    (fixture("x", endpoint="image"), r"f.json:5: .*match.endpoint: .*no fixtures for the endpoint 'image'"),
    (fixture("x", inputText="a"), "'inputText' belongs to embeddings"),
    (fixture("x", context="a"), "'context' is not supported: each rollout"),
    ({**fixture("x"), "chaos": {"dropRate": 1}}, r"f.json:8: fixtures\[0\].chaos: 'chaos' is not supported here"),
    ({**fixture("x"), "truncateAfterChunks": 3}, "'truncateAfterChunks' is not supported here"),
    ({**fixture("x"), "latncy": 3}, r"f.json:8: fixtures\[0\].latncy: .*latency\?"),
    ({"match": {}}, "missing required field `response`"),
    ({**fixture("x"), "streamingProfile": {"tsp": 3}}, r"f.json:9: .*streamingProfile.tsp: .*tps\?"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=[json.dumps(wrong) for wrong, _ in WRONG])
def test_what_is_wrong_in_a_fixture_is_told_with_its_place(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DialectError, match=words):
        read(tmp_path, wrong)


def test_a_configuration_is_told_from_fixtures(tmp_path: Path) -> None:
    file = tmp_path / "aimock.json"
    file.write_text('{"llm": {"fixtures": "f.json"}}')
    with pytest.raises(
        DialectError, match=r"a configuration of aimock, because it has the key 'llm': .*llm.fixtures"
    ):
        read_script(file)
    file.write_text('{"fixtures": [], "port": 3}')
    with pytest.raises(DialectError, match="there is no key 'port' here"):
        read_script(file)
    assert len(read(tmp_path, **{"$comment": "of a person"})) == 0


@pytest.mark.parametrize(("fixtures", "words"), [
    ([fixture("a", userMessage="x"), fixture("b", userMessage="xy")],
     r"f.json:11 is never used, .*f.json:3"),
    ([fixture("a"), fixture("b", userMessage="xy")], "is never used"),
    ([fixture("a", model="m"), fixture("b", userMessage="xy", model="m")], "is never used"),
    ([fixture({"content": "a", "created": 3, "role": "x"})], "not supported, and were ignored: created, role"),
    ([fixture({"embedding": [1.0]}, inputText="a")], "1 fixture is for embeddings"),
])  # fmt: skip
def test_what_may_not_be_meant_is_warned_of(
    fixtures: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    with pytest.warns(ScriptWarning, match=words) as told:
        read(tmp_path, *fixtures)
    assert told[0].filename == __file__


@pytest.mark.parametrize("fixtures", [
    [fixture("a", userMessage="xy"), fixture("b", userMessage="x")],
    [fixture("a", userMessage="x", sequenceIndex=0), fixture("b", userMessage="x")],
    [fixture("a", userMessage="x", turnIndex=0), fixture("b", userMessage="x", turnIndex=1)],
    [fixture("a", model="m"), fixture("b", userMessage="x")],
    [fixture("a", hasToolResult=True), fixture("b", hasToolResult=False)],
])  # fmt: skip
def test_what_is_meant_is_not_warned_of(fixtures: list[dict[str, Any]], tmp_path: Path) -> None:
    assert len(read(tmp_path, *fixtures)) == 2


def test_embeddings_are_read_apart(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    vectors = [
        fixture({"embedding": [1, 2]}, inputText="one"),
        fixture({"embedding": [3, 4]}, inputText="two"),
    ]
    file.write_text(json.dumps({"fixtures": [*vectors, fixture("x")]}))
    embed = read_embeddings(file)
    one, two, other = embed(["a one", "two one", "else"])
    assert (tuple(one), tuple(two)) == ((1, 2), (1, 2))
    assert len(list(other)) == 2
    assert list(other) == list(embed(["else"])[0])
    for document, words in [
        ({"fixtures": [fixture("x")]}, "this file contains no fixture for embeddings"),
        ({"fixtures": [vectors[0], fixture({"embedding": [1]})]}, r"but their sizes are \[1, 2\]"),
        (["a"], "a file of embeddings must hold aimock fixtures"),
    ]:
        file.write_text(json.dumps(document))
        with pytest.raises(DialectError, match=words):
            read_embeddings(file)
