"""Stand-ins of inference servers whose weights change: vLLM, SGLang, and one without routes for that.

Their routes, fields and statuses are those of vLLM's `entrypoints/rl/online/api_router.py` and SGLang's
"SGLang for RL systems". Each token of an answer names the weights that have sampled it.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio

from .provider import END, Asked, Provider, chunk, head, serve_provider, whole

CHAT_ROUTE = {
    "/v1/chat/completions": {"post": {"requestBody": {"content": {"application/json": {
        "schema": {"$ref": "#/components/schemas/ChatCompletionRequest"}
    }}}}}
}  # fmt: skip
CHAT_FIELDS = {"ChatCompletionRequest": {"properties": {"continue_final_message": {}}}}
LENGTH = 4
"""Tokens of an answer; the first half comes at once, the rest when `Engine.rest` is set."""
OPENAPI: dict[str, dict[str, Any]] = {
    "vllm": {
        "paths": {
            "/pause": {"post": {"parameters": [{"name": "mode"}, {"name": "clear_cache"}]}},
            "/resume": {"post": {}},
            "/is_paused": {"get": {}},
            "/weight_info": {"get": {}},
            **CHAT_ROUTE,
        },
        "components": {"schemas": CHAT_FIELDS},
    },
    "vllm_0_14": {
        "paths": {
            "/pause": {"post": {"parameters": [{"name": "wait_for_inflight_requests"}, {"name": "clear_cache"}]}},
            "/resume": {"post": {}},
            "/is_paused": {"get": {}},
        }
    },
    "sglang": {
        "paths": {
            "/pause_generation": {"post": {"requestBody": {"content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/PauseGenerationReqInput"}
            }}}}},
            "/continue_generation": {"post": {}},
            "/model_info": {"get": {}},
            **CHAT_ROUTE,
        },
        "components": {"schemas": {**CHAT_FIELDS, "PauseGenerationReqInput": {"properties": {"mode": {}}}}},
    },
    "sglang_without_modes": {
        "paths": {"/pause_generation": {"post": {}}, "/continue_generation": {"post": {}}}
    },
}  # fmt: skip


class Engine:
    """A server. `kind` is a name of `OPENAPI`; any other one has no routes, as llama.cpp."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.url = ""
        self.version = "w1"
        self.rest = trio.Event()
        self.rest_of_streams = trio.Event()
        self.generations: dict[object, bool] = {}
        """The calls in progress; True: aborted."""
        self.most = 0
        self.begun: list[str] = []
        """The prompt of each call, with the weights at its start."""
        self.routes: list[str] = []
        """The routes that were called."""
        self.sampled_while_paused = 0
        self.fail: dict[str, bytes] = {}
        """What a route answers with, instead."""
        self.fail_once: dict[str, bytes] = {}
        """The same, the first time only."""
        self.before_tokens = False
        """Whether a pause that aborts finds calls without a token."""
        self.slow_pause: trio.Event | None = None
        """What a pause waits for before it is answered."""
        self.paused = False
        self._news = trio.Event()

    def change(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, holds: Any) -> None:
        while not holds():
            await self._news.wait()

    async def answer(self, asked: Asked, stream: trio.SocketStream) -> None:
        target = urlsplit(asked.target)
        if target.path == "/v1/chat/completions":
            await self._generate(asked, stream)
            return
        self.routes.append(asked.target)
        self.change()
        if target.path in self.fail_once:
            await stream.send_all(self.fail_once.pop(target.path))
            return
        for path, data in self.fail.items():
            if target.path == path:
                await stream.send_all(data)
                return
        document, status = {}, 200
        query = parse_qs(target.query)
        match target.path:
            case "/openapi.json" if self.kind in OPENAPI:
                document = OPENAPI[self.kind]
            case "/pause" if self.kind == "vllm":
                await self._pause(query["mode"][0])
            case "/pause" if self.kind == "vllm_0_14":
                await self._pause("wait" if "wait_for_inflight_requests" in query else "abort")
            case "/pause_generation" if self.kind == "sglang":
                await self._pause({"abort": "abort", "retract": "keep"}[asked.document["mode"]])
            case "/resume" | "/continue_generation" if self.kind in OPENAPI:
                self.paused = False
                self.change()
            case "/weight_info" | "/model_info" if self.kind in ("vllm", "sglang"):
                document = {"weight_version": self.version}
            case _:
                document, status = {"detail": "Not Found"}, 404
        await stream.send_all(whole(json.dumps(document).encode(), status))

    async def _pause(self, mode: str) -> None:
        self.paused = True
        if mode == "abort":
            self.generations = dict.fromkeys(self.generations, True)
        self.change()
        if self.slow_pause is not None:
            await self.slow_pause.wait()
        if mode != "keep":
            await self.until(lambda: not self.generations)

    async def _generate(self, asked: Asked, stream: trio.SocketStream) -> None:
        await self.until(lambda: not self.paused)
        call, document = object(), asked.document
        self.generations[call] = False
        self.most = max(self.most, len(self.generations))
        self.begun.append(f"{document['messages'][-1]['content']} {self.version}")
        self.change()
        try:
            await self._write(call, document, stream)
        finally:
            del self.generations[call]
            self.change()

    async def _write(self, call: object, document: Any, stream: trio.SocketStream) -> None:
        tokens: list[str] = []
        streams = bool(document.get("stream"))
        start = head() + chunk(self._chunk({"role": "assistant", "content": ""}))
        if streams and not self.before_tokens:
            await stream.send_all(start)
            start = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_rest)
            nursery.start_soon(self._note_disconnect, call, stream)
            for place in range(LENGTH):
                if place == (0 if self.before_tokens else LENGTH // 2):
                    await self.until(lambda: self.generations[call] or self._goes_on(streams))
                await self.until(lambda: self.generations[call] or not self._frozen)
                if self.generations[call]:
                    break
                tokens.append(f"{document['messages'][-1]['content']}.{self.version} ")
                if streams:
                    await stream.send_all(start + chunk(self._chunk({"content": tokens[-1]})))
                    start = b""
            nursery.cancel_scope.cancel()
        reason = "abort" if self.generations[call] else "stop"
        usage = {"prompt_tokens": 3, "completion_tokens": len(tokens), "total_tokens": 3 + len(tokens)}
        if streams:
            last = self._chunk({}, finish_reason=reason) + self._chunk(None, usage=usage)
            await stream.send_all(start + chunk(last + b"data: [DONE]\n\n") + END)
        else:
            message = {"role": "assistant", "content": "".join(tokens)}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            answer = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
            }
            named = {"metadata": {"weight_version": self.version}} if self.kind == "sglang" else {}
            await stream.send_all(whole(json.dumps({**answer, "usage": usage, **named}).encode()))

    @property
    def _frozen(self) -> bool:
        """A pause for which calls in progress finish pauses only new ones."""
        return self.paused and (self.kind == "sglang" or any("keep" in route for route in self.routes))

    def _goes_on(self, streams: bool) -> bool:
        return self.rest.is_set() or (streams and self.rest_of_streams.is_set())

    async def _note_disconnect(self, call: object, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            assert not await stream.receive_some()
        self.generations[call] = True
        self.change()

    async def _note_rest(self) -> None:
        async with trio.open_nursery() as nursery:
            for event in (self.rest, self.rest_of_streams):
                nursery.start_soon(self._note, event)

    async def _note(self, event: trio.Event) -> None:
        await event.wait()
        self.change()

    def _chunk(self, delta: Any, finish_reason: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        document = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": choices,
        }
        return b"data: " + json.dumps({**document, **more}).encode() + b"\n\n"


@asynccontextmanager
async def serve_engine(kind: str) -> AsyncIterator[Engine]:
    engine = Engine(kind)
    async with serve_provider(engine.answer) as provider:
        engine.provider: Provider = provider
        engine.url = f"{provider.url}/v1"
        yield engine
