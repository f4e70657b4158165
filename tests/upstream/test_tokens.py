"""Token ids and log probabilities: asked for, taken out, checked, kept in the turn, and not seen by the agent."""

import json
from array import array
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from triocept import Exchange, JSONLRecorder, Response, Turn, UpstreamError, Usage, open_upstream, read_traces
from triocept._upstream.tokens import Collector, profile_named
from triocept._upstream.tokens.collector import Wanted
from triocept.traces import Tokens, steps
from triocept.types import PartDelta, Sampling

from .conftest import KEY, base_of, staged
from .provider import (
    CHAT,
    COMPLETIONS,
    END,
    MESSAGES,
    Asked,
    answers,
    chunk,
    head,
    is_stream,
    says,
    serve_provider,
    whole,
)

EXPERTS = b"\x93NUMPY of the shape (6, 2, 1)"
IDS, PROMPT, LOGPROBS = [9, 8, 7], [1, 2, 3, 4], [-0.5, -1.25, -0.125]
USAGE = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}


def entries(ids: list[int], logprobs: list[float], *, named: bool = False) -> dict[str, Any]:
    return {
        "content": [
            {"token": f"token_id:{i}" if named else f"t{i}", "logprob": p, "bytes": [1], "top_logprobs": []}
            for i, p in zip(ids, logprobs, strict=True)
        ]
    }


class Server:
    """An inference server with its own words for tokens."""

    rendered: str | None = "<hi .>"
    """What it makes of messages; None: it has no call for that."""
    tokenized = "<hi .>"
    """What it is to be asked the ids of. What it tells of its prompt is "<hi.>"."""

    def __init__(self, engine: str, *, lose: str = "") -> None:
        self.engine = engine
        self.lose = lose

    async def __call__(self, asked: Asked, stream: trio.SocketStream) -> None:
        document = asked.document
        if asked.target == "/apply-template":
            assert document["messages"]
            await stream.send_all(whole(json.dumps({"prompt": self.rendered}).encode()))
            return
        if asked.target == "/tokenize":
            assert document == {"content": self.tokenized, "add_special": True, "parse_special": True}
            assert asked.headers["authorization"] == f"Bearer {KEY}"
            await stream.send_all(whole(json.dumps({"tokens": PROMPT}).encode()))
            return
        self._wants(asked)
        count = 1 if document.get("max_completion_tokens") == 1 else 3
        if is_stream(asked):
            frames = [
                b"data: " + json.dumps(each).encode() + b"\n\n" for each in self.chunks(document, count)
            ]
            await stream.send_all(head() + b"".join(map(chunk, [*frames, b"data: [DONE]\n\n"])) + END)
        else:
            await stream.send_all(whole(json.dumps(self.whole(document, count)).encode()))

    def _wants(self, asked: Asked) -> None:
        if self.engine == "vllm":
            assert asked.document["return_token_ids"] is True
        if self.engine == "llama_cpp":
            assert not is_stream(asked), "it has no log probabilities in a stream with tools"
            assert "stream_options" not in asked.document
            assert asked.document["verbose"] is asked.document["return_tokens"] is True
            assert asked.document["top_logprobs"] == 1
        if self.engine == "sglang":
            assert (
                asked.headers["x-sglext-return-output-ids"]
                == asked.headers["x-sglext-return-input-ids"]
                == "1"
            )

    def whole(self, document: dict[str, Any], count: int) -> dict[str, Any]:
        usage = {**USAGE, "completion_tokens": count, "total_tokens": 4 + count}
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": "abc"[:count]},
            "finish_reason": "stop",
            "logprobs": self._logprobs(0, count) if document.get("logprobs") else None,
        }
        root: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "usage": usage,
        }
        if self.engine == "vllm":
            choice["token_ids"] = self._ids(0, count)
            choice["routed_experts"] = b64encode(EXPERTS).decode()
            root["prompt_token_ids"] = PROMPT
        if self.engine == "sglang":
            root["sglext"] = {"input_ids": PROMPT, "output_ids": [self._ids(0, count)]}
            root["metadata"] = {"weight_version": "w7"}
        if self.engine == "llama_cpp":
            root["__verbose"] = {
                "tokens": self._ids(0, count),
                "prompt": "<hi.>",
                "content": "t9",
                "stop_type": "eos",
                "generation_settings": {"temperature": 0.25},
            }
        return {**root, "choices": [choice]}

    def chunks(self, document: dict[str, Any], count: int = 3) -> list[dict[str, Any]]:
        def one(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
            return {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [choice],
            }

        asked = document.get("logprobs")
        found = [one({"role": "assistant", "content": ""})]
        if self.engine == "vllm":
            found[0]["prompt_token_ids"] = PROMPT
        deltas: list[dict[str, Any]] = [{"content": "a"}, {}, {"content": "bc"}]
        for at, delta in enumerate(deltas[:count]):
            more: dict[str, Any] = {"logprobs": self._logprobs(at, at + 1)} if asked else {}
            if self.engine == "vllm":
                more["token_ids"] = self._ids(at, at + 1)
            found.append(one(delta, **more))
        found.append(one({}, finish_reason="stop"))
        if self.engine == "sglang":
            sglext = {"input_ids": PROMPT, "output_ids": [self._ids(0, count)]}
            found.append({**one({}), "choices": [], "sglext": sglext, "metadata": {"weight_version": "w7"}})
        if (document.get("stream_options") or {}).get("include_usage"):
            usage = {**USAGE, "completion_tokens": count, "total_tokens": 4 + count}
            found.append({**one({}), "choices": [], "usage": usage})
        return found

    def _ids(self, start: int, stop: int) -> list[int]:
        ids = IDS[start:stop]
        return ids[:-1] if self.lose == "an id" and stop == 3 else ids

    def _logprobs(self, start: int, stop: int) -> dict[str, Any]:
        values = list(LOGPROBS)
        if self.lose == "a probability":
            values[2] = -9999.0
        found = entries(IDS[start:stop], values[start:stop], named=self.lose == "the order")
        if self.lose == "the order" and stop == 3:
            found["content"][-1]["token"] = "token_id:5"
        if self.engine == "llama_cpp":
            for entry, identity in zip(found["content"], IDS[start:stop], strict=True):
                entry["id"] = identity
        return found


ENGINES = ("vllm", "sglang", "llama_cpp")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_turn_has_the_tokens_and_the_agent_has_not(engine: Any, agent: str, stream: bool) -> None:
    async with staged(Server(engine), CHAT, tokens=engine, model="m") as stage:
        stage.upstream.policy_version = "step-12"
        told = await stage.ask(agent, stream=stream)
    (turn,) = stage.rollout.trace
    assert turn.tokens.completion_ids == array("i", IDS)
    assert turn.tokens.logprobs == array("f", LOGPROBS)
    assert turn.tokens.engine == engine
    assert turn.tokens.policy_version == ("w7" if engine == "sglang" else "step-12")
    assert turn.tokens.prompt_ids == array("i", PROMPT)
    assert turn.tokens.gaps == ()
    assert turn.response.usage == Usage(input_tokens=4, output_tokens=3)
    for word in ("token_ids", "logprob", "sglext", "t9", "verbose", "routed_experts"):
        assert word not in told.text.replace('"logprobs":null', "")  # which every answer has
        assert word not in repr(turn.response.extra)
    if agent == CHAT and stream:
        assert "usage" not in told.text  # nobody asked
        assert told.text.count("data: ") in (4, 5)  # role, two texts, the end, [DONE]: none for ids alone


async def test_what_the_agent_asked_for_itself_it_gets() -> None:
    async with staged(Server("vllm"), CHAT, tokens="vllm", model="m") as stage:
        whole_ = await stage.ask(CHAT, logprobs=True, top_logprobs=2)
        streamed = await stage.ask(
            CHAT, stream=True, logprobs=True, stream_options={"include_usage": True}, return_token_ids=True
        )
    assert stage.provider.asked[1].document["top_logprobs"] == 2
    assert [each["logprob"] for each in whole_.json()["choices"][0]["logprobs"]["content"]] == LOGPROBS
    assert "token_ids" not in whole_.text
    assert '"completion_tokens": 3' in streamed.text
    assert '"token_ids": [9]' in streamed.text
    assert all(turn.tokens and not turn.tokens.gaps for turn in stage.rollout.trace)


@pytest.mark.parametrize(("lose", "gaps"), [
    ("an id", ("ids_count", "logprob_count")),
    ("a probability", ("logprob_sentinel",)),
    ("the order", ("token_id_mismatch",)),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_a_check_that_fails_is_a_gap_with_a_name(
    lose: str, gaps: tuple[str, ...], stream: bool
) -> None:
    async with staged(Server("vllm", lose=lose), CHAT, tokens="vllm", model="m") as stage:
        assert (await stage.ask(CHAT, stream=stream)).status_code == 200
    tokens = stage.rollout.trace[0].tokens
    assert tokens.gaps == gaps


async def test_a_stream_that_is_cut_has_its_tokens_with_a_gap() -> None:
    server = Server("vllm")

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.document.get("max_completion_tokens") == 1:  # the question at the start
            await server(asked, stream)
            return
        frames = [
            b"data: " + json.dumps(each).encode() + b"\n\n" for each in server.chunks(asked.document)[:3]
        ]
        await stream.send_all(head() + chunk(b"".join(frames)) + END)

    async with staged(answer, CHAT, tokens="vllm", model="m") as stage:
        async with stage.asking(MESSAGES, stream=True) as answered:
            with pytest.raises(Exception, match="incomplete"):
                await answered.aread()
    (turn,) = stage.rollout.trace
    assert "upstream_truncated" in turn.tokens.gaps
    assert turn.tokens.completion_ids[0] == 9


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_server_that_does_not_give_them_is_found_out_at_the_start(engine: Any) -> None:
    body = json.dumps(
        {
            "id": "c",
            "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}
            ],
            "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5},
        }
    )
    async with serve_provider(says(whole(body.encode()))) as provider:
        with pytest.raises(UpstreamError, match="ids_missing"):
            async with open_upstream(base_of(provider.url, CHAT), dialect=CHAT, tokens=engine, model="m"):
                raise AssertionError("it was opened")


async def test_a_server_that_refuses_the_question_is_found_out_at_the_start() -> None:
    body = b'{"error":{"message":"Unrecognized request argument: return_token_ids"}}'
    async with serve_provider(says(whole(body, 400))) as provider:
        with pytest.raises(UpstreamError, match="return_token_ids"):
            async with open_upstream(base_of(provider.url, CHAT), dialect=CHAT, tokens="vllm", model="m"):
                raise AssertionError("it was opened")


def test_completions_of_vllm_have_their_ids_in_the_choice() -> None:
    document, collector = profile_named("vllm", COMPLETIONS).ask({"model": "m", "prompt": "x"}, logprobs=1)
    assert document["logprobs"] == 1
    choice = {
        "index": 0,
        "text": "abc",
        "finish_reason": "stop",
        "token_ids": IDS,
        "prompt_token_ids": PROMPT,
        "logprobs": {"tokens": ["a", "b", "c"], "token_logprobs": LOGPROBS, "text_offset": [0, 1, 2]},
    }
    told = json.loads(collector.document(json.dumps({"choices": [choice], "usage": USAGE}).encode()))
    assert told == {"choices": [{"index": 0, "text": "abc", "finish_reason": "stop"}], "usage": USAGE}
    tokens = collector.tokens(Usage(input_tokens=4, output_tokens=3))
    assert (tokens.prompt_ids, tokens.completion_ids) == (array("i", PROMPT), array("i", IDS))
    assert tokens.gaps == ()


def test_an_agent_that_asks_for_no_alternatives_has_asked() -> None:
    """0 is a number of alternatives to a text completion, and no False."""
    document, collector = profile_named("vllm", COMPLETIONS).ask({"prompt": "x", "logprobs": 0}, logprobs=1)
    assert document["logprobs"] == 0
    assert document["logprobs"] is not False
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5]}
    choice = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": logprobs, "token_ids": [9]}
    told = json.loads(collector.document(json.dumps({"choices": [choice]}).encode()))
    assert told["choices"][0]["logprobs"] == logprobs


async def test_a_server_that_takes_no_tools_is_asked_without() -> None:
    server = Server("vllm")
    words = b'{"error":{"message":""auto" tool choice requires --enable-auto-tool-choice"}}'

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.document.get("tools"):
            await stream.send_all(whole(words, 400))
        else:
            await server(asked, stream)

    async with staged(answer, CHAT, tokens="vllm", model="m") as stage:
        assert (await stage.ask(CHAT, stream=True)).status_code == 200
    assert ["tools" in asked.document for asked in stage.provider.asked] == [True, False, False]
    assert all(is_stream(asked) for asked in stage.provider.asked)


@pytest.mark.parametrize("rendered", [None, "<hi . It is 10:04.>"])
async def test_a_prompt_that_cannot_be_rendered_again_or_not_to_the_same_is_what_llama_cpp_tells_of_it(
    rendered: str | None,
) -> None:
    server = Server("llama_cpp")
    server.rendered, server.tokenized = rendered, "<hi.>"
    async with staged(server, CHAT, tokens="llama_cpp", model="m") as stage:
        assert (await stage.ask(CHAT, stream=True)).status_code == 200
    (turn,) = stage.rollout.trace
    assert turn.tokens.prompt_ids.tolist() == PROMPT


async def test_a_prompt_whose_ids_cannot_be_had_is_a_gap() -> None:
    server, asked_at_start = Server("llama_cpp"), trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.target == "/tokenize" and asked_at_start.is_set():
            await stream.send_all(whole(b'{"error":{"message":"no"}}', 500))
        else:
            await server(asked, stream)

    async with staged(answer, CHAT, tokens="llama_cpp", model="m") as stage:
        asked_at_start.set()
        assert (await stage.ask(CHAT, stream=True)).status_code == 200
    (turn,) = stage.rollout.trace
    assert turn.tokens.gaps == ("prompt_ids_missing",)


def test_a_second_choice_is_a_gap() -> None:
    collector = Collector("vllm", strip=Wanted(ids=True, logprobs=True, usage=False))
    choice = {"index": 0, "token_ids": IDS, "logprobs": entries(IDS, LOGPROBS)}
    both = {"choices": [choice, {**choice, "index": 1}], "prompt_token_ids": PROMPT}
    collector.document(json.dumps(both).encode())
    assert collector.tokens(None).gaps == ("multi_choice",)


async def test_tokens_survive_the_file_and_take_four_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    async with staged(
        Server("vllm"), CHAT, tokens="vllm", model="m", rollout={"recorder": JSONLRecorder(path)}
    ) as stage:
        await stage.ask(CHAT, stream=True)
    (trace,) = read_traces(path)
    read: Turn = trace[0]
    assert read.tokens == stage.rollout.trace[0].tokens
    assert isinstance(read.tokens, Tokens)
    assert len(read.tokens.completion) == 12
    assert b"[9,8,7]" not in path.read_bytes()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_turn_says_at_which_temperature_its_tokens_were_sampled(engine: Any, stream: bool) -> None:
    """The one that was asked for, in whoever's name; llama.cpp says itself which one it took."""
    async with staged(Server(engine), CHAT, tokens=engine, model="m") as stage:
        await stage.ask(CHAT, stream=stream, temperature=0.5)
        await stage.ask(CHAT, stream=stream)
    sampling = Sampling(temperature=0.75)
    async with staged(Server(engine), CHAT, tokens=engine, model="m", sampling=sampling) as overridden:
        await overridden.ask(MESSAGES, stream=stream, temperature=0.5)
    turns = [*stage.rollout.trace, *overridden.rollout.trace]
    told = [turn.tokens.temperature if turn.tokens else None for turn in turns]
    assert told == [turn.temperature for turn in turns]
    assert told == ([0.25] * 3 if engine == "llama_cpp" else [0.5, None, 0.75])


@pytest.mark.parametrize(("engine", "choice", "more", "included"), [
    ("vllm", {"finish_reason": "stop", "stop_reason": None}, {}, True),
    ("vllm", {"finish_reason": "tool_calls"}, {}, True),
    ("vllm", {"finish_reason": "stop", "stop_reason": 7}, {}, True),
    ("vllm", {"finish_reason": "stop", "stop_reason": "\n\n"}, {}, False),
    ("vllm", {"finish_reason": "length"}, {}, False),
    ("vllm", {"finish_reason": "abort"}, {}, None),
    ("sglang", {"finish_reason": "stop", "matched_stop": 7}, {}, True),
    ("sglang", {"finish_reason": "stop", "matched_stop": "\n\n"}, {}, False),
    ("sglang", {"finish_reason": "stop"}, {}, None),
    ("sglang", {"finish_reason": "length", "matched_stop": None}, {}, False),
    ("llama_cpp", {"finish_reason": "stop"}, {"__verbose": {"stop_type": "eos"}}, True),
    ("llama_cpp", {"finish_reason": "stop"}, {"__verbose": {"stop_type": "word"}}, False),
    ("llama_cpp", {"finish_reason": "length"}, {"__verbose": {"stop_type": "limit"}}, False),
    ("llama_cpp", {"finish_reason": "stop"}, {}, None),
])  # fmt: skip
def test_whether_the_token_that_ends_a_turn_is_among_them_is_what_the_server_says(
    engine: str, choice: dict[str, Any], more: dict[str, Any], included: bool | None
) -> None:
    collector = Collector(engine, strip=Wanted(ids=True, logprobs=True, usage=False))
    collector.document(json.dumps({"choices": [{"index": 0, **choice}], **more}).encode())
    assert collector.tokens(None).stop_included is included


async def test_the_experts_that_a_server_tells_of_are_kept_as_they_came() -> None:
    async with staged(Server("vllm"), CHAT, tokens="vllm", model="m") as stage:
        await stage.ask(CHAT)
        await stage.ask(CHAT, stream=True)  # it has none in a stream
    told = [turn.tokens.routed_experts if turn.tokens else None for turn in stage.rollout.trace]
    assert told == [EXPERTS, b""]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    ("change", "rewritten"), [(lambda text: text, False), (lambda text: text.upper(), True)]
)
async def test_an_answer_that_the_program_passes_on_itself_has_its_tokens_and_says_whether_it_was_changed(
    stream: bool, agent: str, change: Callable[[str], str], rewritten: bool
) -> None:
    async def answer(exchange: Exchange) -> None:
        if not stream:
            response = await stage.upstream.fetch(exchange.request, exchange=exchange)
            await exchange.respond(Response.of(change(response.text)))
            return
        async with stage.upstream.open_response(exchange.request, exchange=exchange) as events:
            async with exchange.open_stream() as stream_:
                async for event in events:
                    if isinstance(event, PartDelta):
                        event = PartDelta(event.index, change(event.text))
                    await stream_.send(event)

    with trio.fail_after(30):
        async with staged(Server("vllm"), CHAT, tokens="vllm", model="m", handler=answer) as stage:
            stage.upstream.policy_version = "step-12"
            assert (await stage.ask(agent, stream=stream)).status_code == 200
    (turn,) = stage.rollout.trace
    assert turn.rewritten is rewritten
    assert turn.tokens.completion_ids == array("i", IDS)
    assert (turn.tokens.policy_version, turn.tokens.gaps) == ("step-12", ())
    (step,) = steps(stage.rollout.trace)
    assert step.gaps == (("rewritten_response",) if rewritten else ())


async def test_a_stream_that_the_program_ends_before_it_is_whole_has_its_tokens_with_a_gap() -> None:
    async def answer(exchange: Exchange) -> None:
        async with stage.upstream.open_response(exchange.request, exchange=exchange) as events:
            async with exchange.open_stream() as stream:
                async for event in events:
                    await stream.send(event)
                    if isinstance(event, PartDelta):
                        break

    async with staged(Server("vllm"), CHAT, tokens="vllm", model="m", handler=answer) as stage:
        assert (await stage.ask(CHAT, stream=True)).status_code == 200
    (turn,) = stage.rollout.trace
    assert "upstream_truncated" in turn.tokens.gaps


async def test_an_answer_of_the_programs_own_is_not_rewritten() -> None:
    async def answer(exchange: Exchange) -> None:
        await stage.upstream.fetch(exchange.request)
        await exchange.respond("mine")

    async with staged(Server("vllm"), CHAT, tokens="vllm", model="m", handler=answer) as stage:
        await stage.ask(CHAT)
    (turn,) = stage.rollout.trace
    assert (turn.rewritten, turn.tokens) == (False, None)


async def test_what_the_program_asked_for_an_exchange_before_an_upstream_answered_it_is_not_in_its_turn() -> (
    None
):
    async def answer(exchange: Exchange) -> None:
        await stage.upstream.fetch(exchange.request, exchange=exchange)
        await exchange.forward(plain)

    with trio.fail_after(30):
        async with (
            serve_provider(answers(CHAT)) as other,
            open_upstream(base_of(other.url, CHAT), dialect=CHAT) as plain,
            staged(Server("vllm"), CHAT, tokens="vllm", model="m", handler=answer) as stage,
        ):
            assert (await stage.ask(CHAT)).status_code == 200
    (turn,) = stage.rollout.trace
    assert (turn.tokens, turn.rewritten) == (None, False)
