"""TLS: handshakes and records that are cut and changed, and plain HTTP where TLS is spoken.

What a client of TLS sends is new each time: so an input says what is done to it, and where.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import Any

import trio
import trustme

from .kind import Check, Input, Kind, Unfit, as_bytes, expect
from .mutate import mutated
from .requests import any_request, call, plain_requests
from .stage import Client, Stage, open_stages

ENDINGS = ("close", "reset", "half", "wait")
METHODS = ("GET ", "POST ", "HEAD ", "PUT ")


def generate(random: Random) -> Input:
    value: dict[str, Any] = {"end": random.choice(ENDINGS), "width": random.choice((1, 7, 100, 9999, 9999))}
    if random.random() < 0.2:
        text = random.choice(
            (
                any_request(random),
                mutated(random, any_request(random)),
                "\x16\x03\x01\x02\x00\x01" + "x" * 300,
            )
        )
        return {**value, "plain": text[:3000]}
    text = call(random, random.choice(("", "stream", "big", "late")))
    changes = [
        [
            random.choice((random.randrange(700), random.randrange(120), random.randrange(500, 1200))),
            *_change(random),
        ]
        for _ in range(random.choice((0, 1, 1, 1, 2)))
    ]
    return {
        **value, "request": text, "changes": changes, "version": random.choice((2, 3, 3)),
        "bye": random.random() < 0.5,
    }  # fmt: skip


def _change(random: Random) -> list[Any]:
    match random.randrange(5):
        case 0:
            return ["cut", ""]
        case 1:
            return ["drop", random.choice((1, 5, 100))]
        case 2:
            return [
                "put",
                random.choice(
                    (
                        "\x15\x03\x03\x00\x02\x02\x28", "\x17\x03\x03\x40\x01", "\0", "x" * 20,
                        "GET / HTTP/1.1\r\n\r\n", "\x14\x03\x03\x00\x01\x01",
                    ),
                ),
            ]  # fmt: skip
        case _:
            return ["flip", 1 << random.randrange(8)]


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's, and a client's that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


class TLSClient(Client):
    """A client that speaks TLS; what it sends is changed on its way, where that is asked for."""

    def __init__(self, port: int, changes: list[Any], *, version: int = 3, width: int = 9999) -> None:
        super().__init__(port)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _contexts()[1]
        context.maximum_version = ssl.TLSVersion.TLSv1_3 if version == 3 else ssl.TLSVersion.TLSv1_2
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._changes, self._width = changes, max(1, width)
        self._sent = 0
        self.cut = False
        """Whether nothing more is sent."""
        self.changed = False
        self.text = b""
        """What was received, in the clear."""

    async def speak(self, data: bytes) -> bool:
        """Shake hands, and send; whether that could be done."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    if not await self._exchange():
                        return False
            self._tls.write(data)
            await self._exchange()
            await self.listen()
        except ssl.SSLError:
            return False
        return True

    async def listen(self) -> None:
        """Read what there is."""
        await self.settle()
        self._in.write(self.got)
        self.got = b""
        try:
            while data := self._tls.read(1 << 20):
                self.text += data
        except ssl.SSLError:
            pass

    async def _exchange(self) -> bool:
        """Send what TLS has to say, and take what comes; whether anything came."""
        data = self._changed(self._out.read())
        for at in range(0, len(data), self._width):
            await self.send(data[at : at + self._width])
        came = bool(self.got)
        self._in.write(self.got)
        self.got = b""
        return came

    def _changed(self, data: bytes) -> bytes:
        start, self._sent = self._sent, self._sent + len(data)
        for place, what, how in sorted(self._changes, key=lambda change: -change[0]):
            at = place - start
            if not 0 <= at < len(data) or self.cut:
                continue
            self.changed = True
            match what:
                case "cut":
                    data, self.cut = data[:at], True
                case "drop":
                    data = data[:at] + data[at + int(how) :]
                case "put":
                    data = data[:at] + as_bytes(how) + data[at:]
                case _:
                    data = data[:at] + bytes([data[at] ^ (int(how) & 0xFF)]) + data[at + 1 :]
        return data

    async def say_goodbye(self) -> None:
        """Close TLS in order."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass
        await self.put(self._changed(self._out.read()))


class Honest:
    """Asks over TLS."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        stage.connect = self._connect  # type: ignore[method-assign]

    def _connect(self) -> Client:
        return _Plain(self._stage.port)


class _Plain(TLSClient):
    """A TLS client with the manners of a plain one."""

    def __init__(self, port: int) -> None:
        super().__init__(port, [])

    async def send(self, data: bytes) -> None:
        if self._speaks:
            await super().send(data)
            return
        self._speaks, self.got = True, b""
        await self.speak(data)
        self._speaks, self.got, self.text = False, self.text, b""

    _speaks = False


@asynccontextmanager
async def open_check() -> AsyncIterator[Check]:
    await trio.lowlevel.checkpoint()
    async with open_stages({"tls": _contexts()[0]}, begin=Honest) as (stage,):
        tried = 0

        async def check(value: Input) -> None:
            nonlocal tried
            tried += 1
            await _check(value, stage)
            if tried % 8 == 0:
                await stage.ask_honestly()

        yield check


async def _check(value: Input, stage: Stage) -> None:
    try:
        end, width, plain, text = (
            value["end"],
            int(value["width"]),
            value.get("plain"),
            value.get("request", ""),
        )
        changes = [(int(place), str(what), how) for place, what, how in value.get("changes", ())]
        version, bye = int(value.get("version", 3)), bool(value.get("bye"))
        as_bytes(f"{text}{plain or ''}")
    except (KeyError, TypeError, ValueError) as exc:
        raise Unfit from exc
    if end not in ENDINGS:
        raise Unfit
    if plain is not None:
        with Client(stage.port) as client:
            await _try_plain(client, stage, str(plain), width)
            await _end(client, end)
    else:
        with TLSClient(stage.port, changes, version=version, width=width) as client:
            await _try(client, stage, text, bye=bye)
            await _end(client, end)
    await stage.look()


async def _end(client: Client, end: str) -> None:
    if end == "half":
        client.end()
    if end == "wait":
        await trio.sleep(200)
    await client.settle()
    client.close(reset=end == "reset")


async def _try_plain(client: Client, stage: Stage, text: str, width: int) -> None:
    data = as_bytes(stage.with_key(text))
    for at in range(0, len(data), max(width, 50)):
        await client.send(data[at : at + max(width, 50)])
    expect(not stage.exchanges, "plain HTTP on a port of TLS is an exchange")
    if text.startswith(METHODS) and len(text) > 20:
        expect(
            client.got.startswith(b"HTTP/1.1 400 ") and client.fate != "open",
            "plain HTTP is not told",
            client.got,
        )


async def _try(client: TLSClient, stage: Stage, text: str, *, bye: bool) -> None:
    done = await client.speak(as_bytes(stage.with_key(text)))
    await trio.sleep(5)
    if done:
        await client.listen()
    if not client.changed and plain_requests(text) == 1:
        expect(
            done and client.text.startswith(b"HTTP/1.1 200 "),
            "a plain call over TLS is not answered",
            client.text[:200],
        )
        expect(len(stage.exchanges) == 1, "a plain call over TLS is not one exchange")
    if done and bye:
        await client.say_goodbye()


TLS = Kind("tls", generate, open_check, batch=100)
