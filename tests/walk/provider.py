"""A real model behind the endpoint: a server in the same program that speaks every dialect, well and badly."""

import json
from collections.abc import Iterator

import trio

from tests.upstream.provider import END, Asked, chunk, head, is_stream, whole, wire_whole
from triocept import Request, Response, Text, Usage
from triocept.dialects import DIALECTS
from triocept.types import Event, PartDelta, events_of

from .account import Account
from .wire import nonce_in


def answering(account: Account, release: trio.Event) -> object:
    """What `serve_provider` gives its requests to."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        nonce = nonce_in(asked.body.decode())
        plan = account.plans[nonce]
        dialect = plan.speaks
        text = f"{nonce} {'x' * plan.size} {nonce}!"
        response = Response(
            (Text(text),),
            id="id-1",
            model="m-1",
            dialect=dialect,
            usage=Usage(input_tokens=3, output_tokens=4),
        )
        match plan.provider:
            case "refuses" | "fails":
                status = 429 if plan.provider == "refuses" else 500
                await stream.send_all(whole(_error(nonce), status))
                return
            case "hangs up":
                await stream.aclose()
                return
            case "waits":
                await _wait(stream, release)
        if not is_stream(asked):
            data = whole(wire_whole(dialect, response))
            if plan.provider in ("breaks off", "is cut"):
                await stream.send_all(data[: len(data) * 2 // 3])
                await stream.aclose()
            else:
                await stream.send_all(data)
            return
        await stream.send_all(head())
        pieces = list(_pieces(dialect, response))
        if plan.provider in ("breaks off", "is cut"):
            pieces = pieces[: len(pieces) // 2]
        for piece in pieces:
            await stream.send_all(chunk(piece))
        if plan.provider == "breaks off":
            await stream.aclose()
        else:
            await stream.send_all(END)

    return answer


def _pieces(dialect: str, response: Response) -> Iterator[bytes]:
    """A stream as a provider sends it, the text in a dozen deltas."""
    renderer = DIALECTS[dialect].stream_renderer(Request(dialect=dialect, model="m-1", messages=()))
    for event in events_of(response):
        deltas: list[Event] = [event]
        if isinstance(event, PartDelta):
            size = len(event.text) // 12 + 1
            deltas = [
                PartDelta(event.index, event.text[at : at + size]) for at in range(0, len(event.text), size)
            ]
        for delta in deltas:
            if data := renderer.render(delta):
                yield data


def _error(nonce: str) -> bytes:
    return json.dumps({"error": {"message": f"nothing for {nonce}", "type": "x", "code": None}}).encode()


async def _wait(stream: trio.SocketStream, release: trio.Event) -> None:
    """Until its client has hung up, or the walk is over."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await stream.wait_send_all_might_not_block()
            await trio.lowlevel.wait_readable(stream.socket)
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await release.wait()
        nursery.cancel_scope.cancel()
