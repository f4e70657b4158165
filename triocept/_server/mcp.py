"""The tools of a rollout as an MCP server (streamable HTTP), with the official `mcp` package.

Rules:

1. Each POST is independent: there is no session that an agent could lose, or that outlives a request. So `GET` (which
   would open a stream) and `DELETE` (which would end a session) are refused with 405, as the specification allows
   (2025-06-18, "Listening for Messages from the Server").
2. If a caller closes its connection before the response, the tool is cancelled. A `notifications/cancelled` is
   acknowledged but has no effect, because, without sessions, triocept cannot match the notification to a call.
3. If a tool raises, or its arguments are invalid, the model gets a result with `isError`. A call of an unknown tool is
   answered with a protocol error.
4. Any `Origin` is accepted. The specification requires servers to check this header, as a protection against DNS
   rebinding. Here the rollout's key protects against DNS rebinding, because no browser sends this key by itself.
5. The `mcp` package is imported at the first request, in a thread, because the import takes a second and must not block
   the endpoint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .._rollout.rollout_state import RolloutState
from .._util.threads import run_in_thread
from ..errors import Refusal

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


async def serve_mcp(
    rollout: RolloutState,
    scope: Scope,
    read_body: Callable[[], Awaitable[bytes]],
    parsed: Callable[[], None],
    receive: Receive,
    send: Send,
    max_body: int,
) -> None:
    """Answer one MCP request about the rollout's tools.

    `read_body` returns the body, at most `max_body` bytes, and `receive` returns the ASGI messages after it. The
    function `parsed` is called after the body was passed to the `mcp` package.

    Raises:
        Refusal: with 405 if the method is not POST, with 501 if the `mcp` package is not installed. `read_body` may
            also raise its own errors.

    Cancellation: the running tool is cancelled.
    """
    if scope["method"] != "POST":
        raise Refusal(405, f"this MCP server accepts only POST, not {scope['method']}", should_retry=False)
    try:
        manager = await run_in_thread(_make_manager, rollout, max_body)
    except ModuleNotFoundError as exc:
        text = "to serve tools over MCP, the endpoint needs the package mcp: pip install 'triocept[mcp]'"
        raise Refusal(501, text, should_retry=False) from exc
    body: bytes | None = await read_body()

    async def receive_whole() -> Message:
        nonlocal body
        if body is None:
            return await receive()
        message: Message = {"type": "http.request", "body": body, "more_body": False}
        body = None
        parsed()
        return message

    async with manager.run():
        await manager.handle_request(scope, receive_whole, send)  # type: ignore[arg-type]


def _make_manager(rollout: RolloutState, max_body: int) -> StreamableHTTPSessionManager:
    """Return the session manager of an MCP server with the tools of `rollout`. The manager answers one request."""
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.shared.exceptions import MCPError

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=made.tool.name,
                    description=made.tool.description,
                    input_schema=made.tool.parameters or {"type": "object"},
                )
                for made in rollout.public.tools
            ]
        )

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            result = await rollout.services.call_tool(rollout, params.name, params.arguments)
        except Refusal as refusal:
            if params.name not in rollout.services.tools:
                raise MCPError(types.INVALID_PARAMS, refusal.message) from refusal
            return types.CallToolResult(content=[types.TextContent(text=refusal.message)], is_error=True)
        # The model gets a text unchanged, and any other result as JSON.
        text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
        return types.CallToolResult(content=[types.TextContent(text=text)])

    server: Server[Any] = Server("triocept", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    return StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=max_body)
