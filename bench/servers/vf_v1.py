"""The ancestor's newer server, of `verifiers.v1`: like ours it parses every call and records every turn.

Its model clients are the only thing replaced: the one here answers by itself, at once, where the real one would ask a
provider. Everything between the socket and the client is unchanged.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from verifiers.v1.clients import Client, EvalClientConfig, ModelContext
from verifiers.v1.clients.client import RelayReply
from verifiers.v1.interception import InterceptionServer
from verifiers.v1.session import RolloutSession
from verifiers.v1.task import WireTaskData
from verifiers.v1.trace import AgentInfo, Trace, TraceTask, WireAgentConfig, WireTrace
from verifiers.v1.types import Response

from ._on_asyncio import run
from ._shape import ANSWER, COMPLETION, HEADER, HOLD, Gate, Route, chunk, increments

_TEXT = {"type": "output_text", "text": ANSWER, "annotations": []}
_ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [_TEXT]}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_700_000_000,
    "model": "bench",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "status": "in_progress",
}
_USAGE: dict[str, Any] = {
    "input_tokens": 1000,
    "output_tokens": 1,
    "total_tokens": 1001,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}
_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "bench",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1000, "output_tokens": 1},
}
_STREAMS: dict[str, list[dict[str, Any]]] = {
    "/v1/messages": [
        {"type": "message_start", "message": _MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ANSWER}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ],
    "/v1/responses": [
        {"type": "response.created", "sequence_number": 0, "response": _RESPONSE},
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": {**_ITEM, "content": []},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 2,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": ANSWER,
        },
        {"type": "response.output_item.done", "sequence_number": 3, "output_index": 0, "item": _ITEM},
        {
            "type": "response.completed",
            "sequence_number": 4,
            "response": {**_RESPONSE, "status": "completed", "output": [_ITEM], "usage": _USAGE},
        },
    ],
}
"""What a provider streams in the dialects other than chat completions, by route: one increment of text."""


class ProgramClient(Client):
    """Answers by itself."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def get_response(
        self,
        dialect: Any,
        body: dict[str, Any],
        sampling: Any,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Response:
        if headers is not None and headers.get(HEADER) == HOLD:
            await self._gate.wait()
        response: Response = dialect.parse_response(dialect.validate_response(COMPLETION))
        response.raw = COMPLETION
        return response

    async def relay(
        self,
        dialect: Any,
        body: dict[str, Any],
        session_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> RelayReply:
        short = _STREAMS.get(dialect.routes[0])
        return RelayReply("text/event-stream", _events(short) if short else _chunks(headers or {}), _nothing)


async def _chunks(headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    for text in [*[ANSWER] * increments(headers), None]:
        yield f"data: {json.dumps(chunk(text))}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def _events(documents: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    for document in documents:
        yield f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


async def _nothing() -> None:
    pass


class V1Server:
    """The server, and the rollouts of the moment."""

    def __init__(self, server: InterceptionServer, gate: Gate, stack: AsyncExitStack) -> None:
        self.port = server.port
        self._server = server
        self._gate = gate
        self._stack = stack

    async def renew(self, count: int) -> list[Route]:
        await self._stack.aclose()
        return [await self._begin() for _ in range(count)]

    async def _begin(self) -> Route:
        context = ModelContext(
            model="bench", client=EvalClientConfig(base_url="http://127.0.0.1:9", api_key_var="NONE")
        )
        session = RolloutSession(ctx=context, trace=_trace())
        _, key, _ = await self._stack.enter_async_context(self._server.acquire(session))
        session.client = ProgramClient(self._gate)
        return Route("/v1/chat/completions", key)


def _trace() -> Trace[Any, Any, Any]:
    return WireTrace(
        task=TraceTask(type="Task", data=WireTaskData(prompt="bench")),
        agent=AgentInfo(config=WireAgentConfig()),
    )


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[V1Server]:
    """A server on a port of the kernel's choice, without a tunnel."""
    async with InterceptionServer() as server, AsyncExitStack() as stack:
        yield V1Server(server, gate, stack)


if __name__ == "__main__":
    run(open_server, frozenset({"answer", "stream", "hold", "endpoint", "stall"}))
