"""Threads: conversations that the server holds, of which a call sends only what is new.

Anthropic's SDKs speak so from anthropic 2 (Python) and @anthropic-ai/sdk 1 (npm) on, by themselves in
`beta.messages.tool_runner`, and where asked in `beta.messages.thread`: `thread: {"type": "create"}` first, then
`{"type": "continue", "previous_message_id": …}`, without `system` and `tools`, which the thread keeps.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Message
from ..._canonical.request import Request
from ..._canonical.response import Response
from ...errors import DialectError
from .._documents import Fields


def parse_thread(fields: Fields) -> str | None:
    """The id of the answer that the call goes on from, or None.

    That a call begins a thread need not be kept: every answer of a rollout can be gone on from.
    """
    thread = fields.object("thread")
    if thread is None or thread.text("type") != "continue":
        return None
    previous = thread.text("previous_message_id")
    if previous is None:
        raise DialectError("is missing", path="thread.previous_message_id")
    return previous


def continued(request: Request, earlier: Request, answer: Response) -> Request:
    """The request with the conversation that it goes on from: that of `earlier`, which `answer` answered.

    The system prompt and the tools are the thread's; tools that the request has all the same are its own.
    """
    said = [Message("assistant", answer.content)] if answer.content else []
    return msgspec.structs.replace(
        request,
        messages=(*earlier.messages, *said, *request.messages),
        tools=request.tools or earlier.tools,
        previous_response=None,
        continued_from=request.previous_response,
    )
