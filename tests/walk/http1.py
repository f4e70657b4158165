"""HTTP/1.1 as an agent speaks it: calls on one connection stand one behind the other, and may all be sent at once."""

from __future__ import annotations

import trio

from .wire import Broken, dial, hang_up, turns


class Connection1:
    """A connection, and the calls on it."""

    def __init__(self, port: int) -> None:
        self.stream = dial(port)
        self.over = False
        """Whether no further call may be made on it."""
        self.left = False
        """Whether we have hung up."""
        self.buffer = b""
        self.writing = trio.Lock()
        self.last: trio.Event | None = None
        """The end of the last answer that was asked for."""

    def call(self) -> Call1:
        return Call1(self)

    async def close(self) -> None:
        self.over = True
        await trio.aclose_forcefully(self.stream)


class Call1:
    """One request and its answer."""

    def __init__(self, connection: Connection1) -> None:
        self.connection = connection
        self.excused = ""
        """Why its answer may not come though it was asked for: what happened to the call before it."""
        self._before: trio.Event | None = None
        self._done = trio.Event()
        self._left = 0
        self._chunked = False

    async def send(
        self, path: str, headers: dict[str, str], body: bytes, *, chunked: bool, cut: int, part: bool
    ) -> None:
        """Send a request, with a pause of `cut` turns in it; or but a part of it."""
        lines = [f"POST {path} HTTP/1.1", "host: test", *(f"{k}: {v}" for k, v in headers.items())]
        if chunked:
            middle = len(body) // 2
            pieces = (body[:middle], body[middle:], b"")
            framed = b"".join(
                [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece or not pieces]
            )
            framed = framed + b"0\r\n\r\n"
            lines.append("transfer-encoding: chunked")
        else:
            framed = body
            lines.append(f"content-length: {len(body)}")
        data = ("\r\n".join(lines) + "\r\n\r\n").encode() + framed
        async with self.connection.writing:
            self._before, self.connection.last = self.connection.last, self._done
            if self.connection.over:
                self.excused = "its connection was over"
                raise Broken(self.excused)
            try:
                await self._send_in_parts(data, cut=cut, part=part)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                if self._before is not None:
                    self.excused = "a call before it has ended its connection"
                raise

    async def _send_in_parts(self, data: bytes, *, cut: int, part: bool) -> None:
        stream, middle = self.connection.stream, len(data) * 2 // 3
        if cut or part:
            await stream.send_all(data[:middle])
            await turns(cut)
        if not part:
            await stream.send_all(data[middle if cut else 0 :])

    async def visit(self, path: str, headers: dict[str, str], body: bytes | None) -> None:
        """Send a POST with a JSON document, or a GET."""
        method = "GET" if body is None else "POST"
        lines = [f"{method} {path} HTTP/1.1", "host: test", *(f"{k}: {v}" for k, v in headers.items())]
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        async with self.connection.writing:
            self._before, self.connection.last = self.connection.last, self._done
            if self.connection.over:
                raise Broken("its connection was over")
            await self.connection.stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b""))

    async def head(self) -> int:
        """The status."""
        if self._before is not None:
            await self._before.wait()
            if self.connection.over:
                self.excused = "the call before it has ended its connection"
                raise Broken(self.excused)
        while b"\r\n\r\n" not in self.connection.buffer:
            await self._receive()
        head, _, self.connection.buffer = self.connection.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if fields.get("connection") == "close":
            self.connection.over = True
        self._chunked = "transfer-encoding" in fields
        self._left = int(fields.get("content-length", 0))
        return int(first.split(" ")[1])

    async def more(self) -> bytes:
        """More of the body; none at its clean end."""
        if self._chunked:
            return await self._chunk()
        if not self._left:
            self.end()
            return b""
        if not self.connection.buffer:
            await self._receive()
        data, self.connection.buffer = (
            self.connection.buffer[: self._left],
            self.connection.buffer[self._left :],
        )
        self._left -= len(data)
        return data

    async def _chunk(self) -> bytes:
        while (end := self.connection.buffer.find(b"\r\n")) < 0:
            await self._receive()
        size = int(self.connection.buffer[:end], 16)
        while len(self.connection.buffer) < end + 2 + size + 2:
            await self._receive()
        data = self.connection.buffer[end + 2 : end + 2 + size]
        self.connection.buffer = self.connection.buffer[end + 2 + size + 2 :]
        if not size:
            self.end()
        return data

    async def _receive(self) -> None:
        data = await self.connection.stream.receive_some(64 * 1024)
        if not data:
            raise Broken("the connection has ended")
        self.connection.buffer += data

    def end(self, *, broken: bool = False) -> None:
        """Let the next call on it read."""
        self.connection.over = self.connection.over or broken
        self._done.set()

    def leave(self, how: str) -> None:
        self.connection.left = self.connection.over = True
        hang_up(self.connection.stream, how)
