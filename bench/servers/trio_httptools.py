"""The limit with httptools, Node's parser in C."""

from __future__ import annotations

import httptools
import trio

from ._fixed import make_open_server
from ._on_trio import run
from ._shape import REPLY


class _Requests:
    """Counts those that are whole."""

    def __init__(self) -> None:
        self.whole = 0

    def on_message_complete(self) -> None:
        self.whole += 1


async def _talk(stream: trio.SocketStream) -> None:
    requests = _Requests()
    parser = httptools.HttpRequestParser(requests)
    async for data in stream:
        parser.feed_data(data)
        if requests.whole:
            await stream.send_all(REPLY * requests.whole)
            requests.whole = 0


if __name__ == "__main__":
    run(make_open_server(_talk), frozenset({"answer", "endpoint"}))
