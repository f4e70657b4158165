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
from ._shape import ANSWER, CHUNKS, COMPLETION, HEADER, Gate, Route, chunk


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
        if headers is not None and HEADER in headers:
            await self._gate.wait()
        response: Response = dialect.parse_response(dialect.validate_response(COMPLETION))
        response.raw = COMPLETION
        return response

    async def relay(self, *_: Any, **__: Any) -> RelayReply:
        return RelayReply("text/event-stream", _chunks(), _nothing)


async def _chunks() -> AsyncIterator[bytes]:
    for text in [*[ANSWER] * CHUNKS, None]:
        yield f"data: {json.dumps(chunk(text))}\n\n".encode()
    yield b"data: [DONE]\n\n"


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
