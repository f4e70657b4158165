"""What is taken out is in no record, wherever it was said; and the agent, and its model, have it all the same."""

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2
import msgspec
import pytest
import trio

from tests.asking import ask, ask_body, bearer, url_of
from triocept import (
    Exchange,
    JSONLRecorder,
    Message,
    Request,
    Response,
    Rollout,
    ScriptedModel,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    open_upstream,
    read_traces,
    serve_endpoint,
)
from triocept._trace.raw import RawResponse
from triocept._trace.redaction import Redactor
from triocept._trace.tokens import packed_floats, packed_ids
from triocept._util.secrets import LIVE_KEYS, MARK
from triocept.handlers import Replay
from triocept.traces import Redaction, Tokens, Turn
from triocept.types import (
    Blob,
    Media,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningAsk,
    RefusalText,
    Sampling,
    ToolChoice,
)

CARD = "4111111111111111"
KEY = "sk-live-0123456789abcdef"


def everywhere(secret: str) -> tuple[Message, ...]:
    """A conversation that says it in each way there is."""
    return (
        Message("system", (Text(f"never say {secret}"),)),
        Message(
            "user", (Text(secret), Opaque("openai_chat", {"of": [{"deep": f"<{secret}>"}, 1, True, None]}))
        ),
        Message("assistant", (Reasoning(f"hm {secret}"), ToolCall("t", f'{{"card": "{secret}"}}', "c1"))),
        Message("tool", (ToolResult(id="c1", content=(Text(f"is {secret}"),)),), extra={"x": secret}),
    )


def request_of(secret: str) -> Request:
    return Request(
        dialect="openai_chat",
        model="m",
        messages=everywhere(secret),
        tools=(Tool(name="t", description=f"for {secret}", parameters={"default": secret}),),
        user=secret,
        extra={"metadata": {"card": secret}},
    )


@pytest.mark.parametrize("secret", [CARD, KEY, "sk-triocept-abcdefghijklmnopqrstuvwxyz0123456789_-ABCDE"])
async def test_it_is_in_no_record_and_the_handler_and_the_agent_have_it(tmp_path: Path, secret: str) -> None:
    file = tmp_path / "t.jsonl"
    seen: list[Exchange] = []

    async def answer(exchange: Exchange) -> None:
        seen.append(exchange)
        exchange.annotate(note=secret)
        await exchange.respond(Response.of(secret, ToolCall.of("t", card=secret)))

    with LIVE_KEYS.holding(KEY):
        redact = Redaction([r"\b\d{16}\b"])
        async with serve_endpoint(recorder=JSONLRecorder(file), redact=redact) as endpoint:
            async with endpoint.open_rollout(answer, metadata={"deep": [secret]}) as rollout:
                response = await rollout.ask(request_of(secret))
                again = await rollout.ask(request_of(secret))
                await rollout.run_agent(["echo", f"--key={secret}"])
    assert secret in seen[0].request.messages[0].text
    assert secret in response.text
    assert secret in again.text
    (trace,) = read_traces(file)
    assert trace == rollout.trace
    assert secret.encode() not in file.read_bytes()
    assert secret not in repr([*rollout.trace, rollout.trace.agents, dict(rollout.trace.metadata)])
    one, two = trace
    assert one.request.messages[0].text == f"never say {MARK}"
    assert one.request.messages == two.request.messages
    assert one.response.text == MARK
    assert one.response.tool_calls[0].arguments == f'{{"card":"{MARK}"}}'
    assert one.notes == {"note": MARK}
    assert trace.agents[0].argv == ("echo", f"--key={MARK}")
    assert [tool.name for tool in one.request.tools] == ["t"]


async def test_the_rollouts_own_key_in_an_agents_words_is_not_recorded(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    holder: list[Rollout] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(f"you asked with {holder[0].api_key}")

    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout(answer) as rollout:
            holder.append(rollout)
            reply = await ask(rollout, f"my key is {rollout.api_key}")
    assert rollout.api_key in reply.text, "the agent has it"
    assert rollout.api_key.encode() not in file.read_bytes()
    assert file.read_bytes().count(MARK.encode()) == 2


async def test_a_key_is_no_name_of_a_session_a_score_or_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    conversations: list[str] = []

    async def answer(exchange: Exchange) -> None:
        conversations.append(exchange.conversation.id)
        await exchange.respond("hello")

    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout(answer, state=1) as rollout:
            key = rollout.state_key or ""
            for named in (
                {"x-session-id": key, "x-parent-session-id": f"of {key}"},
                {"x-claude-code-session-id": "s", "x-claude-code-agent-id": key},
            ):
                async with httpx2.AsyncClient() as client:
                    reply = await client.post(
                        url_of(rollout), json=ask_body(), headers=bearer(rollout) | named
                    )
                assert reply.status_code == 200
            directory = tmp_path / key
            directory.mkdir()
            await rollout.run_agent(["true"], cwd=directory, env={"HOME": f"/{key}"})
            await rollout.score(key, 1)
    assert conversations == [MARK, f"s/{MARK}"]
    assert key.encode() not in file.read_bytes()
    (trace,) = read_traces(file)
    assert trace == rollout.trace
    assert [(turn.conversation.id, turn.conversation.parent) for turn in trace if turn.conversation] == [
        (MARK, f"of {MARK}"),
        (f"s/{MARK}", "s"),
    ]
    assert dict(trace.scores) == {MARK: 1.0}
    assert (trace.agents[0].cwd, trace.agents[0].home) == (str(tmp_path / MARK), f"/{MARK}")


async def test_a_providers_key_is_out_while_its_upstream_is_open() -> None:
    redactor = Redactor()
    message = Message("user", (Text(f"the key is {KEY}"),))
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat", api_key=KEY):
        async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat", api_key=KEY):
            pass
        assert redactor.message(message).text == f"the key is {MARK}"
    assert redactor.message(message) is message
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat", api_key="EMPTY"):
        assert redactor.message(Message("user", (Text("EMPTY"),))).text == "EMPTY"


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "x-portkey-api-key", "helicone-auth-token"])
async def test_a_key_that_goes_in_a_header_of_its_own_is_out_too(name: str) -> None:
    redactor = Redactor()
    message = Message("user", (Text(f"the key is {KEY}, of somebody-else"),))
    headers = {name: f"Bearer {KEY}", "x-title": "somebody-else"}
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat", extra_headers=headers):
        assert redactor.message(message).text == f"the key is {MARK}, of somebody-else"
    assert not LIVE_KEYS.texts


def test_what_says_nothing_secret_is_the_very_same_object() -> None:
    for redactor in (Redactor(), Redactor(Redaction(["nothing like it"]))):
        request = request_of("plain")
        assert redactor.request(request) is request
        assert all(redactor.message(message) is message for message in request.messages)


def test_an_equal_message_is_looked_at_once_and_kept_once() -> None:
    asked: list[str] = []

    def without(text: str) -> str:
        asked.append(text)
        return text.replace("secret", "…")

    redactor = Redactor(Redaction(function=without))
    first = (Message("user", (Text("a secret"),)), Message("user", (Text("b"),)))
    for _ in range(3):
        copies = tuple(Message(each.role, each.content) for each in first)
        kept = redactor.request(Request(dialect="d", model="m", messages=copies))
        assert [message.text for message in kept.messages] == ["a …", "b"]
    assert sorted(asked) == ["a secret", "b", "m"]


def test_what_stands_beside_a_conversation_is_looked_at_once_and_anew_for_another_key() -> None:
    asked: list[str] = []

    def without(text: str) -> str:
        asked.append(text)
        return text.replace("secret", "…")

    redactor, request = Redactor(Redaction(function=without)), request_of("secret")
    first = redactor.request(request)
    texts = len(asked)
    assert texts
    shorter = msgspec.structs.replace(request, messages=request.messages[:1])
    assert redactor.request(shorter) == msgspec.structs.replace(first, messages=first.messages[:1])
    assert len(asked) == texts
    redactor, request = Redactor(), msgspec.structs.replace(request_of(KEY), messages=())
    for holding in (False, True, False):
        with LIVE_KEYS.holding(KEY if holding else None):
            assert (redactor.request(request) is request) is not holding
            assert (KEY in repr(redactor.request(request))) is not holding


@pytest.mark.parametrize("secret", [None, "a secret"], ids=["clean tools", "tools with a secret"])
def test_tools_are_looked_at_once_while_the_other_fields_change(secret: str | None) -> None:
    asked: list[str] = []

    def without(text: str) -> str:
        asked.append(text)
        return text.replace("secret", "…")

    tools = (Tool(name="ls", description=secret or "clean", parameters={"type": "object"}),)
    redactor = Redactor(Redaction(function=without))
    for number in range(4):
        extra = {"n": "secret" if number % 2 else "clean"}
        request = Request(dialect="d", model="m", messages=(), tools=tools, extra=extra)
        kept = redactor.request(request)
        assert kept == Redactor(Redaction(function=lambda text: text.replace("secret", "…"))).request(request)
        assert (kept is request) is ("secret" not in (secret or "", *extra.values()) and not secret)
        assert redactor.request_as_given(kept) == request
    assert asked.count(secret or "clean") == (1 if secret else 3)
    unlike = msgspec.structs.replace(request, tools=(msgspec.structs.replace(tools[0], name="secret"),))
    assert redactor.request(unlike).tools[0].name == "…"


def test_a_key_in_tools_that_stay_the_same_is_removed_as_soon_as_it_is_in_use() -> None:
    redactor, tools = Redactor(), (Tool(name="ls", description=f"use {KEY}"),)
    for number, holding in enumerate((False, True, True, False)):
        request = Request(dialect="d", model="m", messages=(), tools=tools, extra={"n": number})
        with LIVE_KEYS.holding(KEY if holding else None):
            assert (KEY in repr(redactor.request(request))) is not holding


@pytest.mark.parametrize("written", [KEY, KEY.replace("s", "\\u0073", 1)], ids=["plain", "escaped"])
def test_a_key_in_the_further_fields_of_a_part_is_removed(written: str) -> None:
    part = ToolResult(id="id", content=(Text("b"),), extra={"mark": {"n": [written]}})
    message = Message("user", (Text("a"), part))
    with LIVE_KEYS.holding(KEY):
        assert written not in Redactor().message(message).content[1].extra["mark"]["n"]


def test_what_is_equal_but_another_thing_in_json_stays_what_it_is() -> None:
    redactor = Redactor(Redaction([CARD]))
    for number in (1, True, 1.0):
        request = Request(dialect="openai_chat", model="m", messages=(), user=CARD, extra={"n": number})
        kept = redactor.request(request).extra
        assert type(kept["n"]) is type(number)


def test_token_ids_that_would_spell_it_are_left_out_and_the_gap_is_named() -> None:
    tokens = Tokens(
        prompt=packed_ids([1, 2]),
        completion=packed_ids([3]),
        probabilities=packed_floats([-1.0]),
        engine="vllm",
    )
    redactor = Redactor(Redaction([CARD]))

    def turn(asked: str, said: str) -> Turn:
        messages = (Message("user", (Text(asked),)),)
        return redactor.turn(
            Turn(
                id="x",
                rollout="r",
                number=0,
                dialect="openai_chat",
                request=redactor.request(Request(dialect="openai_chat", model="m", messages=messages)),
                outcome="answered",
                response=Response.of(said),
                started_at=0.0,
                duration=1.0,
                tokens=tokens,
            )
        )

    assert turn("hi", "ok").tokens == tokens
    answer = turn("hi", CARD).tokens
    assert (answer.prompt, answer.completion, answer.probabilities) == (tokens.prompt, b"", b"")
    assert answer.gaps == ("redacted",)
    prompt = turn(CARD, "ok").tokens
    assert (prompt.prompt, prompt.completion, prompt.gaps) == (b"", tokens.completion, ("prompt_redacted",))


async def test_a_function_that_fails_records_nothing_and_its_call_is_not_answered(tmp_path: Path) -> None:
    def without(text: str) -> str:
        raise KeyError(text)

    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint:
        with pytest.raises(KeyError):
            async with endpoint.open_rollout(answer, redact=Redaction(function=without)) as rollout:
                assert (await ask(rollout, "a")).status_code == 500
                await trio.sleep_forever()
    (turn,) = rollout.trace
    assert (turn.outcome, [each.text for each in turn.request.messages]) == ("failed", [MARK])


def test_what_a_function_makes_of_a_text_can_be_written_down() -> None:
    half = Redactor(Redaction(function=lambda text: text + "\ud800"))
    assert half.message(Message("user", (Text("a"),))).text == "a\ufffd"


async def test_a_child_is_redacted_as_its_parent_is() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("ok")

    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(answer, redact=Redaction(["b"])) as rollout,
    ):
        async with rollout.open_child(answer) as child:
            await ask(child, "abc")
    assert child.trace[0].request.messages[-1].text == f"a{MARK}c"


@pytest.mark.parametrize(
    ("give", "error"),
    [
        (lambda: Redaction("abc"), TypeError),
        (lambda: Redaction([1]), TypeError),  # type: ignore[list-item]
        (lambda: Redaction([rb"a"]), TypeError),  # type: ignore[list-item]
        (lambda: Redaction([re.compile(rb"a")]), TypeError),  # type: ignore[list-item]
        (lambda: Redaction(["("]), ValueError),
        (lambda: Redaction(function=3), TypeError),  # type: ignore[arg-type]
        (lambda: Redaction(function=ask), TypeError),  # type: ignore[arg-type]
        (lambda: Redaction(function=lambda text: 1).text("a"), TypeError),  # type: ignore[arg-type, return-value]
    ],
)
def test_what_is_no_rule_is_an_error(give: object, error: type[Exception]) -> None:
    assert callable(give)
    with pytest.raises(error):
        give()


async def test_what_is_no_redaction_is_an_error_of_its_own_line() -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match="redact must be a Redaction"):
            endpoint.open_rollout(redact=["a"])  # type: ignore[arg-type]


def test_json_that_is_not_text_stays_as_it_was() -> None:
    raw = {"a": 1, "b": 1.0, "c": True, "d": None, "e": [CARD, {"id": CARD}]}
    message = Message("user", (Opaque("gemini", raw),))
    clean = Redactor(Redaction([CARD])).message(message)
    assert msgspec.json.encode(clean) == msgspec.json.encode(message).replace(
        f'"{CARD}",'.encode(), f'"{MARK}",'.encode()
    )


async def test_what_was_redacted_is_replayed_to_an_agent_that_says_it_again() -> None:
    """Each rollout has a key of its own, and says it: neither is in a record."""

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(f"answer {len(exchange.request.messages)}")

    async def play(rollout: Rollout) -> list[str]:
        first = Message("user", (Text(f"key {rollout.api_key}, card {CARD}"),))
        said = await rollout.ask([first])
        again = await rollout.ask(
            [first, Message("assistant", (Text(said.text),)), Message("user", (Text(CARD),))]
        )
        return [said.text, again.text]

    redact = Redaction([CARD])
    async with serve_endpoint(redact=redact) as endpoint:
        async with endpoint.open_rollout(answer) as recorded:
            wanted = await play(recorded)
        async with endpoint.open_rollout(Replay(recorded.trace)) as rollout:
            assert await play(rollout) == wanted
    assert CARD not in repr([*recorded.trace])


async def test_what_goes_back_to_the_agent_and_the_model_is_as_it_was_given() -> None:
    """A conversation that is named alone, items that are named, an answer that is fetched again."""
    seen: list[Request] = []

    async def answer(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.respond(Response.of(f"yes {CARD}", ToolCall.of("t", card=CARD)))

    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(answer, redact=Redaction([CARD])) as rollout,
    ):

        async def call(**body: object) -> httpx2.Response:
            return await client.post(url_of(rollout, "openai_responses"), json={"model": "m", **body})

        async with httpx2.AsyncClient(headers=bearer(rollout), verify=False) as client:
            first = (await call(input=f"a {CARD}")).json()
            await call(input="b", previous_response_id=first["id"])
            await call(input=[{"type": "item_reference", "id": first["output"][0]["id"]}])
            again = await client.get(f"{url_of(rollout, 'openai_responses')}/{first['id']}")
    assert again.json()["output"] == first["output"]
    assert [message.text for message in seen[1].messages] == [f"a {CARD}", f"yes {CARD}", "b"]
    assert seen[1].messages[1].tool_calls[0].parsed() == {"card": CARD}
    assert CARD in repr(seen[2].messages)
    assert CARD not in repr(list(rollout.trace))


async def test_a_pattern_that_is_found_in_everything_breaks_no_call(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.annotate(note="n")
        await exchange.respond(Response.of("yes", ToolCall.of("t", a="b"), stop_reason="tool_use"))

    file = tmp_path / "t.jsonl"
    asked = msgspec.structs.replace(
        request_of("x"),
        tool_choice=ToolChoice(mode="tool", name="t"),
        reasoning=ReasoningAsk(effort="high"),
        output_format=OutputFormat(kind="json_schema", name="n", schema={"type": "object"}),
    )
    redact = Redaction(["(?s).+"])
    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout(answer, redact=redact, metadata={"a": "b"}) as rollout:
            response = await rollout.ask(asked)
    assert response.text == "yes"
    (trace,) = read_traces(file)
    assert trace.sealed
    assert trace == rollout.trace
    assert trace[0].request.tool_choice == ToolChoice(mode="tool", name=MARK)


@pytest.mark.parametrize("secret", [CARD, KEY])
async def test_it_is_out_of_what_stands_beside_a_conversation(tmp_path: Path, secret: str) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.annotate(of={"id": secret, "kind": secret})
        await exchange.respond("ok")

    file = tmp_path / "t.jsonl"
    asked = msgspec.structs.replace(
        request_of(secret),
        sampling=Sampling(stop=(secret,)),
        output_format=OutputFormat(kind="json_schema", schema={"description": secret}),
    )
    with LIVE_KEYS.holding(KEY):
        async with serve_endpoint(recorder=JSONLRecorder(file), redact=Redaction([CARD])) as endpoint:
            async with endpoint.open_rollout(answer, metadata={"id": secret, "type": secret}) as rollout:
                await rollout.ask(asked)
                async with httpx2.AsyncClient(headers={"user-agent": f"me/1 ({secret})"}) as client:
                    await client.post(url_of(rollout), json=ask_body(), headers=bearer(rollout))
                await rollout.stop(f"enough of {secret}")
    (trace,) = read_traces(file)
    assert trace == rollout.trace
    assert secret.encode() not in file.read_bytes()
    assert trace.stopped == rollout.trace.stopped == f"enough of {MARK}"
    assert rollout.trace[1].agent == f"me/1 ({MARK})"


def test_arguments_are_redacted_as_what_they_mean_however_their_letters_are_written() -> None:
    redactor = Redactor(Redaction(["Jürgen", 'a"b']))

    def recorded(arguments: str) -> str:
        (call,) = redactor.message(Message("assistant", (ToolCall("t", arguments),))).tool_calls
        return call.arguments

    assert (
        recorded(r'{"name": "J\u00fcrgen", "of": ["a\"b", 1]}')
        == f'{{"name": "{MARK}", "of": ["{MARK}", 1]}}'
    )
    assert recorded(r'{"name": "J\u00f6rg"}') == r'{"name": "J\u00f6rg"}'
    assert recorded(r"no JSON \u00fc, Jürgen") == rf"no JSON \u00fc, {MARK}"
    assert recorded(r'{"name": "J\u00fcrgen", "of": "\"') == f'{{"name": "{MARK}", "of": "\\"', "cut off"
    deep = "[" * 10_000
    assert recorded(rf'{deep}"J\u00fcrgen"') == f'{deep}"{MARK}"'
    assert len(recorded('"' + r"\"" * 200_000)) == 400_001, "and in no time"


@pytest.mark.parametrize("levels", [2, 400])
def test_what_is_nested_deep_is_redacted_as_all_else_and_ends_no_rollout(levels: int) -> None:
    def nested(text: str) -> bytes:
        return (
            b'{"a": [' * levels
            + msgspec.json.encode([text, 1, {text: None}, {"role": text}])
            + b"]}" * levels
        )

    document = msgspec.json.decode(nested(CARD))
    message = Message("user", (Text("hello"), Opaque("openai_chat", document)))
    (_, part) = Redactor(Redaction([CARD])).message(message).content
    assert isinstance(part, Opaque)
    expected = nested(MARK).replace(f'{{"{MARK}"'.encode(), f'{{"{CARD}"'.encode())  # names stay
    expected = expected.replace(f'"role":"{MARK}"'.encode(), f'"role":"{CARD}"'.encode())
    assert msgspec.json.encode(part.raw) == expected.replace(b" ", b"")
    plain = msgspec.json.decode(nested("nothing"))
    message = Message("user", (Opaque("openai_chat", plain),))
    assert Redactor(Redaction([CARD])).message(message) is message


@pytest.mark.parametrize("where", ["messages", "beside them"])
async def test_a_retry_gets_the_answer_of_a_call_of_which_something_was_taken_out(where: str) -> None:
    answers = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal answers
        answers += 1
        await exchange.respond(f"{answers}: {CARD}")

    tool = {"type": "function", "function": {"name": "pay", "description": f"with {CARD}"}}
    body = ask_body(CARD) if where == "messages" else ask_body("hi", tools=[tool])
    async with (
        serve_endpoint() as endpoint,
        endpoint.open_rollout(answer, redact=Redaction([CARD])) as rollout,
    ):
        async with httpx2.AsyncClient() as client:
            replies = [
                await client.post(
                    url_of(rollout),
                    json=body,
                    headers={**bearer(rollout), "x-stainless-retry-count": str(tried)},
                )
                for tried in range(2)
            ]
    assert [reply.json()["choices"][0]["message"]["content"] for reply in replies] == [f"1: {CARD}"] * 2
    assert len(rollout.trace) == 1
    assert CARD.encode() not in msgspec.json.encode(msgspec.to_builtins(rollout.trace[0].request))


def test_a_request_is_given_back_as_it_was_asked_with_all_that_it_says_beside_its_messages() -> None:
    redactor = Redactor(Redaction([CARD]))
    asked = request_of(CARD)
    recorded = redactor.request(asked)
    assert CARD.encode() not in msgspec.json.encode(recorded)
    assert redactor.request_as_given(recorded) == asked
    plain = redactor.request(request_of("plain"))
    assert redactor.request_as_given(plain) is plain


def test_the_ids_of_a_prompt_whose_tools_were_redacted_are_left_out() -> None:
    redactor = Redactor(Redaction([CARD]))
    asked = request_of("plain")
    secret = msgspec.structs.replace(asked, tools=(Tool(name="t", description=CARD),))

    def prompt_of(request: Request) -> tuple[bytes, tuple[str, ...]]:
        turn = redactor.turn(
            Turn(
                id="x",
                rollout="r",
                number=0,
                dialect="openai_chat",
                request=redactor.request(request),
                outcome="answered",
                response=Response.of("ok"),
                started_at=0.0,
                duration=1.0,
                tokens=Tokens(prompt=packed_ids([1, 2]), completion=packed_ids([3])),
            )
        )
        return turn.tokens.prompt, turn.tokens.gaps

    assert prompt_of(asked) == (packed_ids([1, 2]), ())
    assert prompt_of(secret) == (b"", ("prompt_redacted",))
    assert prompt_of(asked) == (packed_ids([1, 2]), ())


OWN = "sk-triocept-abcdefghijklmnopqrstuvwxyz0123456789_-ABCDE"
QUOTED = 'sk"live\\0123456789'


@pytest.mark.parametrize("key", [OWN, KEY, QUOTED])
@pytest.mark.parametrize(
    "make",
    [
        lambda key: Message("user", (Text(key),)),
        lambda key: Message("user", (Text("x" * 100_000 + key),)),
        lambda key: Message("user", (Text("hello"), Text(f"é\u2028\n{key}\x00"))),
        lambda key: Message("user", (Text("hello", extra={"beside": [key]}),)),
        lambda key: Message("user", (Text("hello"),), name=key),
        lambda key: Message("user", (Text("hello"),), extra={"beside": {"deep": key}}),
        lambda key: Message("user", (Text("hello"), Opaque("openai_chat", {"of": [key]}))),
        lambda key: Message("tool", (ToolResult(id="c1", content=(Text("a"), Text(key))),)),
    ],
    ids=[
        "alone",
        "behind much",
        "in a second part",
        "beside a part",
        "name",
        "beside",
        "opaque",
        "in a result",
    ],
)
def test_a_key_is_taken_out_of_a_message_wherever_it_stands(make: Callable[[str], Message], key: str) -> None:
    with LIVE_KEYS.holding(KEY), LIVE_KEYS.holding(QUOTED):
        message = make(key)
        kept = Redactor().message(message)
        assert kept is not message
        assert msgspec.json.encode(key)[1:-1] not in msgspec.json.encode(kept)
        assert MARK.encode() in msgspec.json.encode(kept)
    if key != OWN:  # nobody holds it any more
        assert Redactor().message(message) is message


def test_of_two_keys_the_longer_one_is_taken_out_whole() -> None:
    with LIVE_KEYS.holding("provider-key"), LIVE_KEYS.holding("provider-key-of-the-second"):
        assert Redactor().text("a provider-key-of-the-second, provider-key") == f"a {MARK}, {MARK}"
    assert not LIVE_KEYS.texts


def turn_with(response: Response) -> Turn:
    return Turn(
        id="x",
        rollout="r",
        number=0,
        dialect="openai_chat",
        request=Request(dialect="openai_chat", model="m", messages=()),
        outcome="answered",
        response=response,
        started_at=1.0,
        duration=1.0,
    )


OF_A_KEY: list[Part] = [
    Text(KEY),
    Text("a", extra={"x": KEY}),
    RefusalText(KEY),
    Reasoning(KEY),
    Reasoning("a", (Blob("anthropic_messages", "signature", KEY),)),
    Reasoning("a", (Blob("anthropic_messages", KEY, "a"),)),
    Reasoning("a", (Blob(KEY, "signature", "a"),)),
    ToolCall(KEY, "{}", "c"),
    ToolCall("f", KEY, "c"),
    ToolCall("f", "{}", KEY),
    ToolResult(id=KEY),
    ToolResult(id="c", name=KEY),
    ToolResult(id="c", content=(Text("a"), Text(KEY))),
    ToolResult(id="c", content=(Opaque("gemini", {"a": [KEY]}),)),
    ToolResult(id="c", content=(Media(kind="image", url=KEY),)),
    Media(kind="image", data=KEY),
    Media(kind="file", media_type=KEY),
    Media(kind="file", name=KEY),
    Opaque("gemini", {"a": {"b": KEY}}),
]


@pytest.mark.parametrize("part", OF_A_KEY, ids=repr)
def test_a_key_is_found_wherever_a_part_has_text(part: Part) -> None:
    with LIVE_KEYS.holding(KEY):
        kept = Redactor().message(Message("user", (Text("before"), part)))
    assert KEY.encode() not in msgspec.json.encode(kept)


@pytest.mark.parametrize("response", [
    Response((), model=KEY),
    Response((), id=KEY),
    Response((), stop_sequence=KEY),
    Response((), dialect=KEY),
    Response((), extra={"a": KEY}),
    Response((Text("a"), Reasoning(KEY))),
    Response((), usage=Usage(input_tokens=1, output_tokens=1, extra={"a": KEY})),
], ids=repr)  # fmt: skip
def test_a_key_is_found_wherever_an_answer_has_text(response: Response) -> None:
    with LIVE_KEYS.holding(KEY):
        kept = Redactor().turn(turn_with(response))
    assert KEY.encode() not in msgspec.json.encode(kept)


def numbered(text: str, times: int = 1) -> str:
    """A text in JSON's way of each letter as its number, in JSON in JSON …"""
    return "".join([rf"{BACKSLASH * 2 ** (times - 1)}u{ord(letter):04x}" for letter in text])


BACKSLASH = "\\"
SLASHED = "ab/cd+ef/0123456789=="


@pytest.mark.parametrize("held", [{KEY, QUOTED, SLASHED}, set()], ids=["all are in use", "it alone"])
@pytest.mark.parametrize("key", [OWN, KEY, QUOTED, SLASHED])
@pytest.mark.parametrize(
    "write",
    [
        lambda key: msgspec.json.encode({"a": 'x"y', "b": key}).decode(),
        lambda key: msgspec.json.encode([msgspec.json.encode([key, "\\"]).decode()]).decode(),
        lambda key: f'{{"b": "{key[:3]}{numbered(key[3])}{key[4:]}"}}' if '"' not in key else key,
        lambda key: f'["{numbered(key)}", "\\""]' if '"' not in key else key,
        lambda key: f'["[{BACKSLASH}"{numbered(key, 2)}{BACKSLASH}"]"]' if '"' not in key else key,
        lambda key: f'["{key}"]'.replace("/", r"\/") if '"' not in key else key,
        lambda key: f'["{key}"]'.replace("/", r"\u002f").replace('"', '"', 1) if '"' not in key else key,
    ],
    ids=[
        "JSON",
        "JSON in JSON",
        "a letter",
        "each letter",
        "each letter twice",
        "slashes",
        "numbered slashes",
    ],
)
def test_a_key_is_found_behind_jsons_escapes_and_what_was_json_stays_so(
    write: Callable[[str], str], key: str, held: set[str]
) -> None:
    written = write(key)
    parts: tuple[Part, ...] = (
        ToolCall("t", written),
        Text(written),
        ToolResult(id="c", content=(Text(written),)),
    )
    with ExitStack() as stack:
        for one in held | {key} - {OWN}:  # triocept's own need not be in use
            stack.enter_context(LIVE_KEYS.holding(one))
        for message in (Message("user", (part,)) for part in parts):
            for given in (message, msgspec.structs.replace(message, extra={"a": written})):
                kept = msgspec.json.encode(Redactor().message(given)).decode()
                assert MARK in kept
                assert "0123456789" not in kept
                assert numbered("123") not in kept
        (call,) = Redactor().message(Message("user", (parts[0],))).tool_calls
    if written != key:
        assert MARK in repr(call.parsed())


def test_what_hides_no_key_behind_escapes_is_the_very_same_object() -> None:
    with LIVE_KEYS.holding(QUOTED):
        for text in (r'{"a": "\u003cb\u003e \u00e9 \u001b[0m \"\/\\"}', "\\" * 200_000, r"\u0073" * 50_000):
            for message in (
                Message("user", (Text(text),)),
                Message("user", (Text(text),), extra={"a": "\x1b"}),
            ):
                assert Redactor().message(message) is message, "and in no time"


def test_a_backslash_of_a_key_may_stand_before_a_numbered_letter() -> None:
    written = QUOTED.replace("\\0", r"\\\u0030").replace('"', r"\"")
    assert msgspec.json.decode(f'"{written}"') == QUOTED
    with LIVE_KEYS.holding(QUOTED):
        for text in (written, f'{{"a": "{written}"}}'):
            (call,) = Redactor().message(Message("assistant", (ToolCall("t", text),))).tool_calls
            assert "123456789" not in call.arguments


async def test_what_a_program_has_put_into_its_own_request_is_looked_at_in_the_next(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    extra: dict[str, object] = {"more": 1}
    own = Request(dialect="openai_chat", model="m", messages=(Message("user", (Text("?"),)),), extra=extra)
    async with serve_endpoint(recorder=JSONLRecorder(file)) as endpoint:
        async with endpoint.open_rollout(ScriptedModel(["ok"] * 2)) as rollout:
            await rollout.ask(own)
            extra["of"] = rollout.api_key
            await rollout.ask(own)
    assert len(rollout.trace) == 2
    assert rollout.api_key.encode() not in file.read_bytes()


def test_raw_bytes_that_hide_no_key_stay_in_their_pieces() -> None:
    raw = RawResponse(status=200, body=(rb'{"a": "\u003c', 0.1, b'b"}'))
    turn = msgspec.structs.replace(turn_with(Response(())), raw=raw)
    assert Redactor().turn(turn) is turn
    hidden = msgspec.structs.replace(
        turn, raw=RawResponse(status=200, body=(b'{"a": "', numbered(OWN).encode()))
    )
    kept = Redactor().turn(hidden).raw
    assert kept.body == (f'{{"a": "{MARK}'.encode(),)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="how large a text is, CPython says")
def test_a_text_that_is_looked_at_is_kept_once_also_with_letters_beyond_ascii() -> None:
    text = "naïve " * 1000
    size = sys.getsizeof(text)
    said = Message("tool", (Text(text), ToolResult(id="c", content=(Text(text),)), ToolCall("f", text)))
    assert Redactor().message(said) is said
    recorded = turn_with(Response((Text(text),)))
    assert Redactor().turn(recorded) is recorded
    assert sys.getsizeof(text) == size, "written as JSON, it would keep its bytes"
