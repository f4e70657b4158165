"""What HTTP/1.1's own way to the rollout must keep: no request of a connection is lost, cut or doubled."""

import json
import random
import re
import socket
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import h11
import httpx2
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.asking import ask_body, bearer, connected, echo, raw_request, url_of
from tests.ways import OWN, WAYS, way
from triocept import Exchange, Rollout, serve_endpoint
from triocept._server.admission import Turns
from triocept._server.base_connection import KEYLESS_PIECE, Wire
from triocept._server.connection import Connection
from triocept._util.bare_socket import BareSocket

pytestmark = pytest.mark.usefixtures("every_way")


def request_of(rollout: Rollout, text: str, *, more: str = "") -> bytes:
    return raw_request(rollout, json.dumps(ask_body(text)).encode(), more=more)


async def read_answers(stream: trio.SocketStream, count: int) -> list[str]:
    """So many answers to calls that were not streamed, in the order in which they come."""
    data, found = b"", []
    while len(found) < count:
        head, gap, rest = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(lengths[0].split(b":")[1]) if gap and lengths else 0
        if gap and len(rest) >= size:
            if size:
                found.append(json.loads(rest[:size])["choices"][0]["message"]["content"])
            data = rest[size:]
        else:
            piece = await stream.receive_some()
            assert piece, "the connection ended early"
            data += piece
    return found


async def test_pipelined_calls_are_answered_in_their_order() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            texts = [f"call {number}" for number in range(20)]
            await stream.send_all(b"".join(request_of(rollout, text) for text in texts))
            assert await read_answers(stream, 20) == texts
    assert len(rollout.trace) == 20


async def test_a_call_that_comes_byte_by_byte_is_answered() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            for byte in request_of(rollout, "slow"):
                await stream.send_all(bytes([byte]))
                await trio.lowlevel.checkpoint()
            assert await read_answers(stream, 1) == ["slow"]


@pytest.mark.once
async def test_a_connection_is_used_again_at_once_a_thousand_times() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            for number in range(1000):
                await stream.send_all(request_of(rollout, str(number)))
                assert await read_answers(stream, 1) == [str(number)]
    assert len(rollout.trace) == 1000


@pytest.mark.parametrize("seed", range(6))
async def test_long_bodies_that_come_in_any_pieces_are_read_whole_and_in_their_order(seed: int) -> None:
    rng = random.Random(seed)
    kinds = ("x" * rng.randint(100_000, 300_000), "POST / HTTP/1.1\r\n\r\n" * 9_000, "short")
    texts = [f"{number} {rng.choice(kinds)}" for number in range(4)]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        sent = b"".join(request_of(rollout, text) for text in texts)

        async def send_pieces(stream: trio.SocketStream) -> None:
            at = 0
            while at < len(sent):
                size = rng.choice((100, 5_000, 70_000, 130_000, 500_000))
                await stream.send_all(sent[at : at + size])
                await trio.testing.wait_all_tasks_blocked(rng.choice((0.0, 0.001)))
                at += size

        with trio.fail_after(60):
            async with connected(endpoint.port) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(send_pieces, stream)
                assert await read_answers(stream, len(texts)) == texts


async def test_a_head_that_repeats_the_head_before_has_its_own_length_and_headers() -> None:
    seen: list[tuple[str, str | None, str]] = []

    async def note(exchange: Exchange) -> None:
        headers = exchange.headers
        seen.append((headers["content-length"], headers.get("x-mark"), exchange.request.last.text))
        await echo(exchange)

    calls = [("a" * size, mark) for mark in (None, "1", "2", None) for size in (1, 5, 2_000, 200_000, 7)]
    expected = []
    async with serve_endpoint() as endpoint, endpoint.open_rollout(note) as rollout:
        async with connected(endpoint.port) as stream:
            for text, mark in calls:
                sent = request_of(rollout, text, more="" if mark is None else f"X-Mark: {mark}\r\n")
                expected.append((str(len(sent.partition(b"\r\n\r\n")[2])), mark, text))
                await stream.send_all(sent)
                assert await read_answers(stream, 1) == [text]
    assert seen == expected


@pytest.mark.parametrize("length", ["", "+5", "5 5", "0x5", "1" * 16, "-1", "5, 5", "\u0665"])
async def test_an_invalid_length_is_refused_also_behind_a_known_head(length: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            first = request_of(rollout, "first")
            await stream.send_all(first)
            assert await read_answers(stream, 1) == ["first"]
            number = first.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            await stream.send_all(first.replace(b": " + number, b": " + length.encode()))
            with trio.fail_after(30):
                assert re.match(rb"HTTP/1.1 4\d\d", await stream.receive_some())
    assert len(rollout.trace) == 1


async def test_a_stream_of_one_text_is_sent_in_two_pieces() -> None:
    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("word")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, json.dumps(ask_body(stream=True)).encode()))
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += await stream.receive_some()
    first, second, _ = re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", received.partition(b"\r\n\r\n")[2])[1:]
    assert b"word" in first
    assert b"[DONE]" in second


async def test_a_client_that_expects_100_continue_gets_it_and_its_answer() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            head, _, body = request_of(rollout, "hi", more="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
            await stream.send_all(head + b"\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(body)
            assert await read_answers(stream, 1) == ["hi"]


async def test_a_chunked_body_is_read_and_one_over_the_cap_is_refused() -> None:
    body = json.dumps(ask_body("x" * 50)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    async with serve_endpoint(max_body=1000) as endpoint, endpoint.open_rollout(echo) as rollout:
        start = head.format(rollout.api_key).encode()
        async with connected(endpoint.port) as stream:
            chunks = b"".join(b"%x\r\n%s\r\n" % (1, bytes([byte])) for byte in body)
            await stream.send_all(start + chunks + b"0\r\n\r\n")
            assert await read_answers(stream, 1) == ["x" * 50]
        async with connected(endpoint.port) as stream:
            await stream.send_all(start + b"7d0\r\n" + b"x" * 2000 + b"\r\n")
            assert b" 413 " in (await stream.receive_some()).splitlines()[0]


async def test_a_model_call_and_another_route_share_a_connection() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            for _ in range(3):
                await stream.send_all(request_of(rollout, "one"))
                assert await read_answers(stream, 1) == ["one"]
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += await stream.receive_some()
                assert b" 200 " in answer


async def test_a_long_body_that_comes_right_behind_a_head_for_hypercorn_is_read_whole() -> None:
    """The body comes while the connection passes to hypercorn; of 40 such bodies, about ten once lost a piece."""
    text = "x" * 100_000
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        for _ in range(40):
            async with connected(endpoint.port) as stream:
                await stream.send_all(request_of(rollout, "one"))
                assert await read_answers(stream, 1) == ["one"]
                folded = request_of(rollout, text, more="X: a\r\n b\r\n")
                head, _, body = folded.partition(b"\r\n\r\n")
                await stream.send_all(head + b"\r\n\r\n")
                await trio.lowlevel.checkpoint()
                with trio.fail_after(30):
                    await stream.send_all(body)
                    assert await read_answers(stream, 1) == [text]


PIECES = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"\x00", b"\x7f", b"\xff", b"%41", b"?", b"#", b"a",
     b"", b"1"),
    *(b"X: y\r\n", b"Host: b\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n",
     b"Content-Length: 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"HTTP/1.0",
     b"get"),
    *(b"Content-Encoding: gzip\r\n", b"X: a\r\n b\r\n", b"TE: trailers\r\n", b"Content-Length: +7\r\n"),
]  # fmt: skip


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Places in a head (0 to 1), how many bytes go from there, and what comes in their place."""
    edit = st.tuples(
        st.integers(0, 100).map(lambda n: n / 100), st.sampled_from([0, 0, 1, 2, 7]), st.sampled_from(PIECES)
    )
    return draw(st.lists(edit, min_size=1, max_size=3))


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    head, gap, body = data.partition(b"\r\n\r\n")
    head += gap
    for place, length, piece in changes:
        at = round(place * len(head))
        if length == 0:  # whole lines begin at a line
            at = head.rfind(b"\r\n", 0, at) + 2 if piece.endswith(b"\r\n") and b":" in piece else at
        head = head[:at] + piece + head[at + length :]
    return head + body


async def answer_to(port: int, data: bytes) -> tuple[object, ...]:
    """What a client sees: status, headers and body of each response, and whether the connection has ended."""
    seen: list[object] = []
    with socket.create_connection(("127.0.0.1", port)) as agent:
        agent.sendall(data)
        agent.setblocking(False)
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
        client.send(h11.EndOfMessage())
        # The server is in this program: when nothing moves any more it has said all that it has to say.
        await trio.testing.wait_all_tasks_blocked(0.02)
        while True:
            try:
                event = client.next_event()
            except h11.RemoteProtocolError:  # a 101, which this client did not ask for
                seen.append("switched")
                break
            if event is h11.NEED_DATA:
                try:
                    client.receive_data(agent.recv(65536))
                except BlockingIOError:
                    break
                except OSError:
                    seen.append("reset")
                    break
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                headers = {
                    name: value
                    for name, value in event.headers
                    if name not in (b"date", b"content-length", b"x-request-id", b"request-id")
                }
                seen.append((event.status_code, headers))
            elif isinstance(event, h11.Data):
                seen.append(re.sub(rb"(?:resp_|chatcmpl-)\w+|\"created\":\d+", b"", bytes(event.data)))
            else:
                seen.append(type(event).__name__)
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed | h11.EndOfMessage):
                    break
    return tuple(seen)


async def assert_same_both_ways(examples: list[list[tuple[float, int, bytes]]]) -> None:
    async with AsyncExitStack() as stack:
        endpoints = []
        for name in WAYS:
            with way(name):
                endpoints.append(await stack.enter_async_context(serve_endpoint()))
        one, other = endpoints
        async with one.open_rollout(echo, id="r") as a, other.open_rollout(echo, id="r") as b:
            for changes in examples:
                answers = []
                for rollout, port in ((a, one.port), (b, other.port)):
                    data = edited(request_of(rollout, "hi"), changes)
                    answers.append(await answer_to(port, data))
                assert answers[0] == answers[1], changes


@pytest.mark.once
@example(
    [[(0.24, 0, b"Connection: close\r\n"), (0.98, 0, b"\r\n")]]
)  # an empty line before the body, which is cut
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(edits(), min_size=8, max_size=8))
def test_a_head_of_any_kind_is_answered_the_same_both_ways(
    monkeypatch: pytest.MonkeyPatch, examples: list[list[tuple[float, int, bytes]]]
) -> None:
    # The same key for both, the same in each run: an edit may fall into it.
    monkeypatch.setattr("triocept._rollout.rollout_state.token_urlsafe", lambda size: "k" * size)

    async def main() -> None:
        with trio.fail_after(60):
            await assert_same_both_ways(examples)

    trio.run(main)


async def test_a_stream_whose_agent_reads_slowly_waits_for_it_and_loses_nothing() -> None:
    sent = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal sent
        async with exchange.open_stream() as stream:
            for number in range(400):
                await stream.send(f"<{number}>" + "x" * 50_000)
                sent += 1

    async with serve_endpoint() as endpoint, endpoint.open_rollout(pour) as rollout:
        async with connected(endpoint.port) as stream:
            body = json.dumps(ask_body("go", stream=True)).encode()
            await stream.send_all(raw_request(rollout, body, more="Connection: close\r\n"))
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert 0 < sent < 350, "as much as the sockets hold, and no more"
            data = bytearray()
            async for piece in stream:
                data += piece
    found = [int(number) for number in re.findall(rb"<(\d+)>", bytes(data))]
    assert found == list(range(400))
    assert data.endswith(b"0\r\n\r\n")


async def test_the_events_of_a_quick_stream_come_whole_and_in_order() -> None:
    async def count(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for number in range(2000):
                await stream.send(f"<{number}>")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(count) as rollout:
        async with httpx2.AsyncClient(timeout=None) as client:
            reply = await client.post(
                url_of(rollout), json=ask_body("go", stream=True), headers=bearer(rollout)
            )
    assert [int(n) for n in re.findall(r"<(\d+)>", reply.text)] == list(range(2000))
    (turn,) = rollout.trace
    assert turn.response.text == "".join(f"<{number}>" for number in range(2000))


async def test_a_client_that_hangs_up_within_its_head_costs_no_parser_of_hypercorns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    monkeypatch.setattr(Connection, "_open_protocol", lambda *args: made.append(args))
    with way(OWN):
        async with serve_endpoint() as endpoint:
            for head in (b"G", b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n"):
                stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
                await stream.send_all(head)
                await stream.send_eof()
                assert await stream.receive_some() == b""
                await stream.aclose()
    assert made == []


async def test_the_rest_of_an_agents_first_body_waits_for_no_turn_of_clients_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    take = BareSocket.take

    def note_size(self: BareSocket, most: int) -> bytes | None:
        sizes.append(most)
        return take(self, most)

    monkeypatch.setattr(BareSocket, "take", note_size)
    text, agents = "x" * 300_000, 20
    with way(OWN):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            for _ in range(agents):
                async with connected(endpoint.port) as stream:
                    await stream.send_all(request_of(rollout, text))
                    assert await read_answers(stream, 1) == [text]
    assert sizes.count(KEYLESS_PIECE) == agents, "only the first piece"


async def test_a_connection_that_becomes_authenticated_while_it_is_read_needs_no_turn() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        wire = Wire(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        guest: Any = SimpleNamespace(keyless=True, in_turns=0)
        received: list[bytes] = []

        async def read() -> None:
            received.append(await wire.receive_keyless(100, Turns(0), 0, guest, False))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            guest.keyless = False
            theirs.send(b"the next request")
    assert received == [b"the next request"]
