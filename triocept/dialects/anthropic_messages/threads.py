"""Threads: conversations that the server holds, so that a call sends only its new messages.

Anthropic's SDKs use threads from anthropic 2 (Python) and @anthropic-ai/sdk 1 (npm) on: by default in
`beta.messages.tool_runner`, and on request in `beta.messages.thread`. They send `thread: {"type": "create"}` first,
then `{"type": "continue", "previous_message_id": …}`, without `system` and `tools`, which the thread keeps.
"""

from __future__ import annotations

import msgspec

from ..._canonical.content import Message
from ..._canonical.request import Request
from ..._canonical.response import Response
from ...errors import DialectError
from .._documents import Fields


def parse_thread(fields: Fields) -> str | None:
    """Return the id of the answer that the call continues, or None.

    The start of a thread needs no record: a call can continue every answer of a rollout.
    """
    thread = fields.object("thread")
    if thread is None or thread.text("type") != "continue":
        return None
    previous = thread.text("previous_message_id")
    if previous is None:
        raise DialectError("is missing", path="thread.previous_message_id")
    return previous


def continued(request: Request, earlier: Request, answer: Response) -> Request:
    """Return the request with the conversation that it continues: the messages of `earlier`, and its `answer`.

    The system prompt and the tools are those of the thread, unless the request has tools of its own.
    """
    said = [Message("assistant", answer.content)] if answer.content else []
    return msgspec.structs.replace(
        request,
        messages=(*earlier.messages, *said, *request.messages),
        tools=request.tools or earlier.tools,
        previous_response=None,
        continued_from=request.previous_response,
    )
