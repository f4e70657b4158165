"""The host services over plain HTTP: what they answer, what they do with bad input, and how a call ends."""

import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import trio
import trio.testing

from tests.asking import ask_body, bearer, connected, raw_request, url_of
from triocept import (
    EndpointLimits,
    Exchange,
    JSONLRecorder,
    Message,
    Refusal,
    Rollout,
    RolloutClosed,
    ScriptedModel,
    Text,
    ToolCall,
    Turn,
    read_traces,
    serve_endpoint,
)
from triocept.dialects import DIALECTS
from triocept.errors import LimitReached
from triocept.handlers import when
from triocept.types import HostTool

pytestmark = pytest.mark.usefixtures("every_way")


@asynccontextmanager
async def opened(handler: Any = None, **options: Any) -> AsyncIterator[tuple[Rollout, httpx2.AsyncClient]]:
    """A rollout with these services, and a client that has its key; paths begin at the rollout."""
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler, id="r", **options) as rollout:
            base = f"{endpoint.url}/rollout/r"
            async with httpx2.AsyncClient(base_url=base, headers=bearer(rollout), timeout=None) as client:
                yield rollout, client


def message_of(response: httpx2.Response) -> str:
    """The text of an error."""
    return str(response.json()["error"]["message"])


class Tools:
    def __init__(self) -> None:
        self.begun = trio.Event()
        self.cancelled = trio.Event()

    async def add(self, a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    async def hang(self) -> None:
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def fail(self) -> None:
        raise ValueError("the disk is full")

    async def refuse(self) -> None:
        raise Refusal(429, "not so fast", retry_after=2)

    async def give_an_object(self) -> object:
        return object()

    async def give_numbers_as_keys(self) -> dict[int, float]:
        return {1: float("nan")}

    async def fail_in_a_nursery(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(self.fail)

    @property
    def all(self) -> list[Any]:
        return [
            self.add, self.hang, self.fail, self.refuse, self.give_an_object, self.give_numbers_as_keys,
            self.fail_in_a_nursery,
            HostTool.of(self.hang, name="hang_a_moment", timeout=0.05),
        ]  # fmt: skip


# Tools


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_tools_are_listed_in_the_asking_dialects_form(dialect: str) -> None:
    async with opened(tools=[Tools().add]) as (_, client):
        response = await client.get(f"/tools?dialect={dialect}")
    if dialect == "openai_completions":
        assert (response.status_code, message_of(response)) == (
            400,
            "tools: the completions dialect cannot offer tools",
        )
        return
    listed = response.json()["tools"]
    document = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    document |= {"input": "hi", "contents": [{"role": "user", "parts": [{"text": "hi"}]}], "tools": listed}
    wanted = {"gemini": {"model", "contents", "tools"}, "openai_responses": {"model", "input", "tools"}}
    kept = wanted.get(dialect, {"model", "messages", "tools", "max_tokens"})
    request = DIALECTS[dialect].parse_request({k: v for k, v in document.items() if k in kept})
    (tool,) = request.tools
    assert (tool.name, tool.description) == ("add", "Add.")
    assert tool.parameters["required"] == ["a"]


async def test_without_a_query_the_headers_say_which_dialect_asks() -> None:
    async with opened(tools=[Tools().add]) as (_, client):
        (chat,) = (await client.get("/tools")).json()["tools"]
        assert chat["function"]["name"] == "add"
        (messages,) = (await client.get("/tools", headers={"anthropic-version": "2023-06-01"})).json()[
            "tools"
        ]
        assert messages["input_schema"]["required"] == ["a"]
        unknown = await client.get("/tools?dialect=esperanto")
        assert unknown.status_code == 400
        assert "esperanto" in message_of(unknown)


async def test_a_tool_is_called_and_its_result_is_json() -> None:
    async with opened(tools=Tools().all) as (rollout, client):
        assert (await client.post("/tools/add", json={"arguments": {"a": 1}})).json() == {"result": 2}
        assert (await client.post("/tools/give_numbers_as_keys")).json() == {"result": {"1": None}}
        by_key_alone = f"{rollout.service_url('tools/add').replace('/rollout/r', '')}"
        response = await client.post(by_key_alone, json={"arguments": {"a": 2, "b": 2}})
        assert response.json() == {"result": 4}


@pytest.mark.parametrize(("path", "body", "status", "text"), [
    ("add", b'{"arguments":{"a":"1"}}', 400,
     "the arguments do not match the parameters of the tool add: Expected `int`, got `str` - at `$.a`"),
    ("add", b'{"arguments":{"a":1,"c":1}}', 400,
     "the arguments do not match the parameters of the tool add: Object contains unknown field `c`"),
    ("add", b'{"arguments":[1]}', 400,
     "the arguments do not match the parameters of the tool add: Expected `object`, got `array`"),
    ("add", b"", 400, "the arguments do not match the parameters of the tool add: Object missing required field `a`"),
    ("add", b'{"a":1}', 400, 'the body must have the form {"arguments": {…}}'),
    ("add", b"[]", 400, 'the body must have the form {"arguments": {…}}'),
    ("add", b"{", 400, "the body is not valid JSON: Input data was truncated"),
    ("none", b"{}", 404, "this rollout has no tool 'none'; tools of the rollout: add, hang, fail"),
    ("fail", b"{}", 500, "ValueError: the disk is full"),
    ("fail_in_a_nursery", b"{}", 500, "ExceptionGroup: Exceptions from Trio nursery (1 sub-exception)"),
    ("refuse", b"{}", 429, "not so fast"),
    ("give_an_object", b"{}", 500, "the result of the tool give_an_object is not JSON"),
    ("hang_a_moment", b"{}", 504, "the tool hang_a_moment took longer than its timeout of 0.05 s"),
])  # fmt: skip
async def test_a_bad_call_is_answered_and_disturbs_nothing_else(
    path: str, body: bytes, status: int, text: str
) -> None:
    async with opened(tools=Tools().all) as (rollout, client):
        async with trio.open_nursery() as nursery:
            held: list[httpx2.Response] = []

            async def call() -> None:
                held.append(await client.post("/tools/add", json={"arguments": {"a": 1}}))

            nursery.start_soon(call)
            response = await client.post(f"/tools/{path}", content=body)
        assert response.status_code == status
        assert text in message_of(response)
        assert held[0].json() == {"result": 2}
        if status >= 500:
            assert response.headers["x-should-retry"] == "false"
        assert (await client.post("/tools/add", json={"arguments": {"a": 1}})).json() == {"result": 2}
        assert all(
            call.outcome != "answered" for call in rollout.trace.services if call.name == path != "add"
        )


async def test_a_tool_is_cancelled_when_its_caller_hangs_up_and_not_before() -> None:
    tools = Tools()
    async with opened(tools=tools.all) as (rollout, client):
        async with connected(int(str(client.base_url.port))) as stream:
            await stream.send_all(raw_request(rollout, b"{}", path="/rollout/r/tools/hang"))
            await tools.begun.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert not tools.cancelled.is_set()
        await tools.cancelled.wait()
        assert (await client.post("/tools/add", json={"arguments": {"a": 1}})).json() == {"result": 2}
        hung, _ = rollout.trace.services
        assert (hung.outcome, hung.error and hung.error.type) == ("abandoned", "Cancelled")


async def test_a_client_that_hangs_up_before_its_answer_leaves_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as (rollout, client):
        for turns in range(30):
            async with connected(int(str(client.base_url.port))) as stream:
                body = msgspec.json.encode({"model": "m", "input": "a word"})
                await stream.send_all(raw_request(rollout, body, path="/rollout/r/v1/embeddings"))
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_tool_is_cancelled_because_its_rollout_ended_and_its_caller_is_told() -> None:
    tools = Tools()
    async with serve_endpoint() as endpoint:
        async with (
            endpoint.open_rollout(id="r", tools=tools.all) as rollout,
            connected(endpoint.port) as stream,
        ):
            await stream.send_all(raw_request(rollout, b"{}", path="/rollout/r/tools/hang"))
            await tools.begun.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rollout._core.close)
                answer = b""
                while b"is closed" not in answer:
                    answer += await stream.receive_some()
        assert tools.cancelled.is_set()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"rollout r is closed" in answer
        assert [call.outcome for call in rollout.trace.services] == ["abandoned"]


async def test_a_tool_whose_clean_up_takes_its_time_is_waited_for() -> None:
    finished = trio.Event()
    begun = trio.Event()

    async def slow_to_go() -> None:
        try:
            begun.set()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.05)
            finished.set()

    async with opened(tools=[slow_to_go]) as (rollout, client), trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/tools/slow_to_go")
        await begun.wait()
        await rollout._core.close()
        assert finished.is_set()
        assert len(rollout.trace.services) == 1


async def test_a_stopped_rollout_refuses_new_calls_and_lets_the_one_that_stopped_it_end() -> None:
    async def submit(answer: str, rollout: Rollout) -> str:
        await rollout.stop(f"it has submitted {answer}")
        return "thank you"

    async with opened(tools=[submit, Tools().add]) as (_, client):
        submitted = await client.post("/tools/submit", json={"arguments": {"answer": "42"}})
        assert submitted.json() == {"result": "thank you"}
        later = await client.post("/tools/add", json={"arguments": {"a": 1}})
        assert later.status_code == 404
        assert message_of(later) == "it has submitted 42"
        stop = await client.post("/stop")
        assert stop.json() == {"done": True, "reason": "it has submitted 42"}


async def test_what_is_no_exception_ends_the_rollout() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with opened(tools=[interrupt]) as (_, client):
            await client.post("/tools/interrupt")
            await trio.sleep_forever()


async def test_a_wrong_key_calls_nothing() -> None:
    async with opened(tools=Tools().all, state={}) as (rollout, client):
        for path in ("tools/add", "user", "stop", "model"):
            assert rollout.state_key is not None
            for key in ("wrong", rollout.state_key):
                response = await client.post(f"/{path}", headers={"authorization": f"Bearer {key}"})
                assert response.status_code == 401
        assert not rollout.trace.services


# User and stop


def in_dialect(dialect: str, text: str) -> dict[str, Any]:
    match dialect:
        case "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        case "openai_responses":
            return {"input": text}
        case "openai_completions":
            return {"prompt": text}
        case _:
            return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_simulated_user_reads_and_says_messages_in_the_asking_dialect(dialect: str) -> None:
    heard: list[Sequence[Message]] = []

    async def user(messages: Sequence[Message], rollout: Rollout) -> str:
        heard.append(messages)
        return f"I heard {messages[-1].text}" if messages else "Hello!"

    async with opened(user=user) as (rollout, client):
        response = await client.post(f"/user?dialect={dialect}", json=in_dialect(dialect, "this"))
        opening = await client.post("/user")
    assert [message.text for message in heard[0]] == ["this"]
    assert heard[1] == ()
    assert "I heard this" in response.text
    assert opening.json() == {"messages": [{"role": "user", "content": "Hello!"}]}
    assert [(call.kind, call.outcome) for call in rollout.trace.services] == [("user", "answered")] * 2


@pytest.mark.parametrize(("said", "texts"), [
    (None, []),
    ("a", ["a"]),
    (["a", Message("user", (Text("b"),))], ["a", "b"]),
    (Message("user", (Text("b"),)), ["b"]),
])  # fmt: skip
async def test_a_user_says_nothing_one_thing_or_several(said: Any, texts: list[str]) -> None:
    async def user(messages: Sequence[Message], rollout: Rollout) -> Any:
        return said

    async with opened(user=user) as (_, client):
        messages = (await client.post("/user")).json()["messages"]
    assert [message["content"] for message in messages] == texts


async def test_a_service_that_fails_is_named_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def user(messages: Any, rollout: Any) -> str:
        raise ValueError("gone")

    async with opened(user=user) as (_, client):
        await client.post("/user", json={"messages": []})
    assert "a call of the user of rollout r failed" in caplog.messages


async def test_a_user_that_says_no_messages_or_raises_is_answered_with_500() -> None:
    for said in (3, [3], ValueError("no idea")):

        async def user(messages: Sequence[Message], rollout: Rollout, said: Any = said) -> Any:
            if isinstance(said, Exception):
                raise said
            return said

        async with opened(user=user) as (_, client):
            assert (await client.post("/user")).status_code == 500


async def test_a_transcript_that_its_dialect_cannot_read_is_refused_with_its_path() -> None:
    async def user(messages: Sequence[Message], rollout: Rollout) -> None: ...

    async with opened(user=user) as (rollout, client):
        response = await client.post("/user", json={"messages": [{"role": "user"}, {"content": 3}]})
        assert response.status_code == 400
        assert "messages[1]" in message_of(response)
        assert (await client.post("/user", json=[])).status_code == 400
        assert not rollout.trace.services


async def test_a_service_that_is_not_offered_is_not_there() -> None:
    async with opened() as (_, client):
        assert (await client.post("/user")).status_code == 404
        assert (await client.get("/tools")).json() == {"tools": []}
        assert (await client.get("/state")).status_code == 404
        assert (await client.post("/stop")).json() == {"done": False, "reason": None}


async def test_a_script_is_begun_anew_by_the_rollouts_key_alone() -> None:
    async with opened(ScriptedModel(["one", when(text="b").reply("two")])) as (_, client):
        for _ in range(2):
            for text, answer in (("a", "one"), ("b", "two")):
                said = await client.post("/v1/chat/completions", json=ask_body(text))
                assert said.json()["choices"][0]["message"]["content"] == answer
            wrong = await client.post("/reset", headers={"authorization": "Bearer wrong"})
            assert wrong.status_code == 401
            assert (await client.post("/reset")).json() == {"reset": True}


async def test_a_handler_that_cannot_begin_anew_says_so() -> None:
    async def handler(exchange: Exchange) -> None: ...

    for each in (handler, None):
        async with opened(each) as (_, client):
            response = await client.post("/reset")
            assert response.status_code == 404
            assert "so it cannot be reset" in message_of(response)


@pytest.mark.parametrize("call", ["POST /reset", "POST /user", "GET /state", "POST /tools/none"])
async def test_a_service_that_is_not_here_is_no_missing_model(call: str) -> None:
    method, path = call.split()
    async with opened() as (_, client):
        response = await client.request(method, path)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"
        response = await client.request(method, path, headers={"anthropic-version": "2023-06-01"})
        assert response.json()["error"]["type"] == "not_found_error"


async def test_a_stop_condition_says_why() -> None:
    async def stop(messages: Sequence[Message], rollout: Rollout) -> str | None:
        return "that is enough" if len(messages) > 1 else None

    async with opened(stop=stop) as (rollout, client):
        one = {"messages": [{"role": "user", "content": "a"}]}
        assert (await client.post("/stop", json=one)).json() == {"done": False, "reason": None}
        two = {"messages": one["messages"] * 2}
        assert (await client.post("/stop", json=two)).json() == {"done": True, "reason": "that is enough"}
        assert [call.result for call in rollout.trace.services] == [None, "that is enough"]


# Model calls of tools


async def test_a_tools_model_call_is_an_exchange_marked_as_such() -> None:
    kinds: list[str] = []

    async def handler(exchange: Exchange) -> None:
        kinds.append(exchange.conversation.kind)
        await exchange.respond(f"{exchange.request.model}: {exchange.request.last.text}")

    async with opened(handler, model="best") as (rollout, client):
        body = {"messages": [{"role": "user", "content": "hi"}]}
        answer = await client.post("/model", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "best: hi"
        messages = await client.post("/model?dialect=anthropic_messages", json={**body, "max_tokens": 9})
        assert messages.json()["content"] == [{"type": "text", "text": "best: hi"}]
        gemini = await client.post("/model?dialect=gemini", json=in_dialect("gemini", "hi"))
        assert gemini.json()["candidates"][0]["content"]["parts"] == [{"text": "best: hi"}]
        stream = await client.post("/model", json={**body, "stream": True})
        assert stream.text.endswith("data: [DONE]\n\n")
        await client.post(url_of(rollout), json=ask_body())
        assert (await client.post("/model?dialect=esperanto", json=body)).status_code == 404
    assert kinds == ["tool"] * 4 + ["main"]
    assert [rollout.trace.conversations[turn.id].kind for turn in rollout.trace] == kinds
    assert not rollout.trace.services


async def test_a_tools_model_call_is_never_taken_for_the_agents_own() -> None:
    """Both ask the same at the same time: two exchanges."""
    release, waiting = trio.Event(), 0

    async def handler(exchange: Exchange) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            release.set()
        await release.wait()
        await exchange.respond(exchange.conversation.kind)

    body = ask_body(tools=[{"type": "function", "function": {"name": "f"}}])
    headers = {"x-session-id": "s"}  # an agent that names its conversation joins its own retries
    async with opened(handler) as (rollout, client), trio.open_nursery() as nursery:
        for path in ("/model", "/v1/chat/completions"):
            nursery.start_soon(lambda path=path: client.post(path, json=body, headers=headers))
    assert sorted(turn.response.text for turn in rollout.trace if turn.response) == ["main", "tool"]


async def test_a_tool_of_the_program_asks_the_model_without_a_detour() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.last.text == "no":
            raise Refusal(404, "never")
        await exchange.respond(exchange.request.last.text.upper())

    async def shout(text: str, rollout: Rollout) -> str:
        return (await rollout.ask(text)).text

    async with opened(handler, tools=[shout]) as (rollout, client):
        assert (await client.post("/tools/shout", json={"arguments": {"text": "hi"}})).json() == {
            "result": "HI"
        }
        refused = await client.post("/tools/shout", json={"arguments": {"text": "no"}})
        assert (refused.status_code, message_of(refused)) == (404, "never")
    (turn, _), (call, _) = rollout.trace.turns, rollout.trace.services
    assert (turn.dialect, turn.conversation and turn.conversation.kind) == ("openai_chat", "tool")
    assert (call.result, call.turns) == ("HI", 0)


# State


class Notes(msgspec.Struct):
    title: str
    lines: list[str] = []


def state_bearer(rollout: Rollout) -> dict[str, str]:
    return {"authorization": f"Bearer {rollout.state_key}"}


async def test_state_is_read_and_replaced_and_the_program_sees_it() -> None:
    async with opened(state=Notes("first")) as (rollout, client):
        key = state_bearer(rollout)
        assert (await client.get("/state", headers=key)).json() == {"title": "first", "lines": []}
        new = {"title": "second", "lines": ["a"]}
        assert (await client.put("/state", json=new, headers=key)).json() == new
        assert rollout.state == Notes("second", ["a"])
        rollout.state = Notes("third")
        assert (await client.get("/state", headers=key)).json() == {"title": "third", "lines": []}
        with pytest.raises(TypeError, match="the state must be of type"):
            rollout.state = "text"
    assert [(c.kind, c.name, c.outcome) for c in rollout.trace.services] == [
        ("state", "get", "answered"),
        ("state", "put", "answered"),
        ("state", "get", "answered"),
    ]


@pytest.mark.parametrize("body", [b'{"title":3}', b"{}", b"[]", b"null", b"", b"{"])
async def test_a_state_that_does_not_validate_is_refused_and_leaves_it_as_it_was(body: bytes) -> None:
    async with opened(state=Notes("first")) as (rollout, client):
        response = await client.put("/state", content=body, headers=state_bearer(rollout))
        assert response.status_code == 400
        assert rollout.state == Notes("first")


async def test_the_states_key_opens_the_state_alone_and_the_agents_key_does_not() -> None:
    async def never(exchange: Exchange) -> None:
        raise AssertionError("no model call has the right key")

    async with opened(never, state={}, tools=[Tools().add]) as (rollout, client):
        for method in ("GET", "PUT"):
            assert (await client.request(method, "/state", json={})).status_code == 401
        key = state_bearer(rollout)
        for path in (
            "/v1/chat/completions",
            "/v1/messages",
            "/model",
            "/tools/add",
            "/mcp",
            "/user",
            "/stop",
        ):
            assert (await client.post(path, json=ask_body(), headers=key)).status_code == 401
        assert (await client.get("/tools", headers=key)).status_code == 401
        assert (await client.get("/v1/models", headers=key)).status_code == 401
        assert rollout.state_key not in repr(rollout)
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(id="a", state=1) as a, endpoint.open_rollout(id="b", state=2) as b:
            async with httpx2.AsyncClient() as client:
                crossed = await client.get(b.service_url("state"), headers=state_bearer(a))
                assert crossed.status_code == 401
                alone = await client.get(f"{endpoint.url}/state", headers=state_bearer(a))
                assert alone.json() == 1
        async with httpx2.AsyncClient() as client:
            revoked = await client.get(f"{endpoint.url}/state", headers=state_bearer(a))
            assert revoked.status_code == 401


async def test_a_state_may_have_a_type_of_its_own() -> None:
    async with opened(state={"a": 1}, state_type=dict[str, int]) as (rollout, client):
        key = state_bearer(rollout)
        assert (await client.put("/state", json={"b": "2"}, headers=key)).status_code == 400
        assert (await client.put("/state", json={"b": 2}, headers=key)).status_code == 200
        assert rollout.state == {"b": 2}
    with pytest.raises(TypeError, match="the state must be of type"):
        async with opened(state={"a": "1"}, state_type=dict[str, int]):
            pass


async def test_two_tools_of_one_name_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="two tools have the name 'add'"):
        async with opened(tools=[Tools().add, Tools().add]):
            pass


# What is kept


async def test_service_calls_are_in_the_file_before_their_caller_sees_them(tmp_path: Any) -> None:
    path = tmp_path / "traces.jsonl"
    recorder = JSONLRecorder(path)
    tools = Tools()
    async with opened(tools=tools.all, recorder=recorder) as (rollout, client):
        await client.post("/tools/add", json={"arguments": {"a": 1}})
        (unsealed,) = read_traces(path)
        assert unsealed.services == rollout.trace.services
        assert not unsealed.sealed
        await client.post("/tools/fail")
    await recorder.aclose()
    (trace,) = read_traces(path)
    assert trace.sealed
    assert trace.services == rollout.trace.services
    assert [call.number for call in trace.services] == [0, 1]
    assert rollout.api_key not in path.read_text()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    (short,) = read_traces(path)
    assert not short.sealed  # one is missing


async def test_a_service_call_in_memory_says_what_its_line_says(tmp_path: Path) -> None:
    async def pair(x: int) -> Any:
        return x, {"deep": (x, float("nan"))}

    async def user(messages: Any, rollout: Any) -> str:
        return "more"

    async def stop(messages: Any, rollout: Any) -> None: ...

    path = tmp_path / "traces.jsonl"
    given: dict[str, Any] = {"tools": [pair], "user": user, "stop": stop, "state": (1, 2)}
    async with opened(recorder=JSONLRecorder(path), **given) as (rollout, client):
        await client.post("/tools/pair", json={"arguments": {"x": 1}})
        for name in ("user", "stop"):
            await client.post(f"/{name}", json=ask_body())
        await client.get("/state", headers={"authorization": f"Bearer {rollout.state_key}"})
    assert [call.result for call in rollout.trace.services[::3]] == [[1, {"deep": [1, None]}], [1, 2]]
    (trace,) = read_traces(path)
    assert trace == rollout.trace


async def test_what_a_recorder_raises_fails_the_call_and_reaches_the_owner() -> None:
    class Full:
        async def record(self, turn: Turn) -> None: ...
        async def record_service(self, call: Any) -> None:
            raise OSError("the disk is full")

        async def seal(self, trace: Any) -> None: ...
        async def aclose(self) -> None: ...

    statuses: list[int] = []
    with pytest.raises(OSError, match="the disk is full"):
        async with opened(tools=[Tools().add], recorder=Full()) as (_, client):
            with trio.CancelScope(shield=True):
                statuses.append((await client.post("/tools/add", json={"arguments": {"a": 1}})).status_code)
            await trio.sleep_forever()
    assert statuses == [500]


async def test_a_recorder_of_turns_alone_needs_to_know_nothing_of_services() -> None:
    class Turns:
        async def record(self, turn: Turn) -> None: ...
        async def seal(self, trace: Any) -> None: ...
        async def aclose(self) -> None: ...

    async with opened(tools=[Tools().add], recorder=Turns()) as (_, client):
        assert (await client.post("/tools/add", json={"arguments": {"a": 1}})).status_code == 200


# Children


async def echo_kind(exchange: Exchange) -> None:
    await exchange.respond(f"{exchange.rollout.id}: {exchange.request.last.text}")


async def test_a_child_has_a_key_of_its_own_and_a_branch_of_its_parents_trace(tmp_path: Any) -> None:
    path = tmp_path / "traces.jsonl"
    recorder = JSONLRecorder(path)

    async def delegate(task: str, rollout: Rollout) -> str:
        async with rollout.open_child(echo_kind, id="child") as child:
            assert child.api_key != rollout.api_key
            async with httpx2.AsyncClient() as http:
                wrong = await http.post(url_of(child), json=ask_body(task), headers=bearer(rollout))
                assert wrong.status_code == 401
                right = await http.post(url_of(child), json=ask_body(task), headers=bearer(child))
            return str(right.json()["choices"][0]["message"]["content"])

    async with opened(echo_kind, tools=[delegate], recorder=recorder) as (rollout, client):
        await client.post("/v1/chat/completions", json=ask_body("first"))
        done = await client.post("/tools/delegate", json={"arguments": {"task": "dig"}})
        assert done.json() == {"result": "child: dig"}
        async with rollout.open_child(id="idle") as idle:
            assert idle.model == rollout.model
    await recorder.aclose()
    for trace in (rollout.trace, read_traces(path)[0]):
        (call,) = trace.services
        child, idle_trace = trace.children
        assert (child.branch.rollout, child.branch.turns, child.branch.service) == ("r", 1, call.id)
        assert (idle_trace.branch.rollout, idle_trace.branch.service) == ("r", None)
        assert child.sealed
        assert [turn.branch for turn in child] == [child.branch]
        assert [turn.rollout for turn in trace] == ["r"]


async def test_a_stopped_parent_stops_its_children() -> None:
    async with opened(echo_kind) as (rollout, client):
        async with rollout.open_child(echo_kind) as child, child.open_child(echo_kind) as grandchild:
            await rollout.stop("enough")
            for each in (child, grandchild):
                response = await client.post(url_of(each), json=ask_body(), headers=bearer(each))
                assert response.status_code == 404
                assert message_of(response) == "enough"
            with pytest.raises(LimitReached):
                await child.ask("hi")


async def test_a_child_ends_with_its_parent_wherever_its_body_runs() -> None:
    """A child that was opened in a task of somebody else."""
    ended: list[str] = []

    async def run(parent: Rollout, *, task_status: Any) -> None:
        try:
            async with parent.open_child(id="child") as child:
                task_status.started(child)
                await trio.sleep_forever()
        except RolloutClosed as exc:
            ended.append(str(exc))

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout(id="parent") as parent:
            child = await nursery.start(run, parent)
        assert child.trace.sealed
        async with httpx2.AsyncClient() as http:
            response = await http.post(url_of(child), json=ask_body(), headers=bearer(child))
            assert response.status_code == 401
        with pytest.raises(RolloutClosed):
            parent.open_child()
    assert ended == ["rollout child has ended, because its parent rollout parent has ended"]


async def test_a_child_in_a_tool_is_cancelled_with_the_tool() -> None:
    begun = trio.Event()
    children: list[Rollout] = []

    async def delegate(rollout: Rollout) -> None:
        async with rollout.open_child() as child:
            children.append(child)
            begun.set()
            await trio.sleep_forever()

    async with opened(tools=[delegate]) as (rollout, client), trio.open_nursery() as nursery:
        nursery.start_soon(client.post, "/tools/delegate")
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert children[0].trace.sealed
    assert [call.outcome for call in rollout.trace.services] == ["abandoned"]


async def test_a_body_that_fails_leaves_bare_though_a_tool_is_at_work() -> None:
    tools = Tools()
    with pytest.raises(ValueError, match=r"^the body's own$"):
        async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
            async with endpoint.open_rollout(id="r", tools=tools.all) as rollout:
                await stream.send_all(raw_request(rollout, b"{}", path="/rollout/r/tools/hang"))
                await tools.begun.wait()
                raise ValueError("the body's own")
    assert tools.cancelled.is_set()


async def test_a_cancelled_program_cancels_its_tools_and_records_them() -> None:
    tools = Tools()
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        with trio.CancelScope() as scope:
            async with endpoint.open_rollout(id="r", tools=tools.all) as rollout:
                await stream.send_all(raw_request(rollout, b"{}", path="/rollout/r/tools/hang"))
                await tools.begun.wait()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert tools.cancelled.is_set()
        assert [call.outcome for call in rollout.trace.services] == ["abandoned"]


async def test_the_model_is_called_by_a_tool_while_the_agent_waits_for_it() -> None:
    """The way of a recursive agent: its tool asks, and the same handler answers."""

    async def handler(exchange: Exchange) -> None:
        if exchange.conversation.kind == "tool":
            await exchange.respond("from below")
        elif exchange.request.tool_results:
            await exchange.respond(exchange.request.tool_results[-1].text)
        else:
            await exchange.respond(ToolCall.of("deeper"))

    async def deeper(rollout: Rollout) -> str:
        return (await rollout.ask("what is below?")).text

    async with opened(handler, tools=[deeper], concurrency=1) as (_, client):
        first = await client.post("/v1/chat/completions", json=ask_body())
        call = first.json()["choices"][0]["message"]["tool_calls"][0]
        assert (await client.post(f"/tools/{call['function']['name']}")).json() == {"result": "from below"}


async def test_a_child_goes_where_its_parent_goes() -> None:
    async with serve_endpoint() as first, serve_endpoint() as second:
        async with first.open_rollout(echo_kind) as parent, parent.open_child(echo_kind, id="child") as child:
            assert child.service_url("tools") == f"{first.url}/rollout/child/tools"
            parent._core.rebind(second, second._registry, second._watcher)
            assert child.service_url("tools") == f"{second.url}/rollout/child/tools"
            async with httpx2.AsyncClient() as http:
                answer = await http.post(url_of(child), json=ask_body("hi"), headers=bearer(child))
            assert answer.json()["choices"][0]["message"]["content"] == "child: hi"


async def test_services_are_reached_from_elsewhere_by_the_public_url() -> None:
    async with serve_endpoint(advertise="localhost") as endpoint, endpoint.open_rollout(id="r") as rollout:
        elsewhere = f"http://localhost:{endpoint.port}/rollout/r"
        assert rollout.service_url("mcp", reach="public") == f"{elsewhere}/mcp"
        assert rollout.environ(reach="public")["TRIOCEPT_URL"] == elsewhere
        assert rollout.environ()["TRIOCEPT_URL"] == f"{endpoint.url}/rollout/r"
        assert rollout.environ()["TRIOCEPT_API_KEY"] == rollout.api_key


async def test_a_surrogate_in_what_a_service_gives_is_mended_in_the_answer_and_in_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(
        "CRITICAL", logger="triocept.rollout"
    )  # xdist cannot carry the traceback's own surrogate

    async def read() -> dict[str, list[str]]:
        """Read a file whose name is no UTF-8."""
        return {"k\ud83d": ["a\udcff", "\ud83d\ude00"]}

    async def break_down() -> None:
        raise FileNotFoundError("b\udcff")

    async def user(messages: Sequence[Message], rollout: Rollout) -> str:
        return "c\ud83d"

    async def stop(messages: Sequence[Message], rollout: Rollout) -> str:
        return "d\ud83d"

    path = tmp_path / "t.jsonl"
    async with opened(
        tools=[read, break_down], user=user, stop=stop, state={"e": "f\ud83d"}, recorder=JSONLRecorder(path)
    ) as (rollout, client):
        key = {"authorization": f"Bearer {rollout.state_key}"}
        assert (await client.post("/tools/read")).json() == {"result": {"k\ufffd": ["a\ufffd", "\U0001f600"]}}
        assert message_of(await client.post("/tools/break_down")) == "FileNotFoundError: b\ufffd"
        assert (await client.post("/user", json={"messages": []})).json()["messages"][0][
            "content"
        ] == "c\ufffd"
        assert (await client.post("/stop", json={"messages": []})).json()["reason"] == "d\ufffd"
        assert (await client.get("/state", headers=key)).json() == {"e": "f\ufffd"}
    (written,) = read_traces(path)
    assert len(written.services) == 5
    for read_back, call in zip(written.services, rollout.trace.services, strict=True):
        assert (read_back.result, read_back.error) == (call.result, call.error)


async def test_what_a_service_is_sent_is_bounded_as_a_model_call_is_and_may_be_compressed() -> None:
    limits = EndpointLimits(document_items=1000, decoded_bytes=10_000)
    async with (
        serve_endpoint(limits=limits) as endpoint,
        endpoint.open_rollout(tools=[Tools().add]) as rollout,
    ):
        url = rollout.service_url("tools/add")
        headers = {"authorization": f"Bearer {rollout.api_key}", "content-encoding": "gzip"}
        async with httpx2.AsyncClient(headers=headers) as client:
            small = await client.post(url, content=gzip.compress(b'{"arguments":{"a":1,"b":2}}'))
            assert (small.status_code, small.json()) == (200, {"result": 3})
            for bomb in (b" " * 20_000, b"[" + b"[]," * 2000 + b"[]]"):
                assert (await client.post(url, content=gzip.compress(bomb))).status_code == 413
