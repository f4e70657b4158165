"""The limit with h11."""

from __future__ import annotations

import h11
import trio

from ._fixed import BODY, make_open_server
from ._on_trio import run

_HEADERS = [("content-type", "application/json"), ("content-length", str(len(BODY)))]


async def _talk(stream: trio.SocketStream) -> None:
    wire = h11.Connection(h11.SERVER)
    async for data in stream:
        wire.receive_data(bytes(data))
        while (event := wire.next_event()) is not h11.NEED_DATA:
            if not isinstance(event, h11.EndOfMessage):
                continue
            await stream.send_all(
                (wire.send(h11.Response(status_code=200, headers=_HEADERS)) or b"")
                + (wire.send(h11.Data(data=BODY)) or b"")
                + (wire.send(h11.EndOfMessage()) or b"")
            )
            wire.start_next_cycle()


if __name__ == "__main__":
    run(make_open_server(_talk), frozenset({"answer", "endpoint"}))
