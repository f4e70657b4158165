"""A request with a key waits for no crowd without one: counted, and in CPU seconds."""

import json
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.asking import ask_body, connected, echo, raw_request, read_answer
from triocept import Exchange, Rollout, serve_endpoint
from triocept._server import admission, serve
from triocept._server.front import HTTPCycle
from triocept._server.http11 import HTTP11
from triocept._server.listen import accept_waiting, open_listener

pytestmark = pytest.mark.usefixtures("every_way")

STRANGERS = 1_000
ASKED = {
    "health": b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "the greeting": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "401 of a call": b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "401 of the models": b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    "404": b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    "405": b"DELETE /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
}


class Strangers:
    """Clients without a key on this endpoint. They are sockets, and no tasks of the event loop."""

    def __init__(self, stack: ExitStack, port: int, asked: bytes) -> None:
        self._asked = asked
        self._sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(STRANGERS)
        ]

    def ask(self) -> None:
        for each in self._sockets:
            each.sendall(self._asked)

    async def hear(self) -> None:
        """Wait until all are answered."""
        for each in self._sockets:
            await trio.lowlevel.wait_readable(each)
            assert each.recv(4096).startswith(b"HTTP/1.1 ")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses of all replies that are no answers, as they are made."""
    made: list[int] = []
    for way in (HTTP11, HTTPCycle):

        def respond(self: Any, reply: Any, real: Any = way.respond) -> bool:
            made.append(reply.status)
            return real(self, reply)  # type: ignore[no-any-return]

        monkeypatch.setattr(way, "respond", respond)
    return made


async def call(stream: trio.SocketStream, rollout: Rollout) -> None:
    await stream.send_all(raw_request(rollout, json.dumps(ask_body()).encode()))
    assert (await read_answer(stream)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.timeout(120)
@pytest.mark.once
@pytest.mark.parametrize("asked", ASKED)
async def test_between_a_call_and_its_answer_few_requests_without_a_key_are_served(
    asked: str, served: list[int]
) -> None:
    with ExitStack() as stack:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as kept:
                await call(kept, rollout)
                strangers = Strangers(stack, endpoint.port, ASKED[asked])
                for again in (False, True, True):
                    strangers.ask()
                    before = len(served)
                    async with connected(endpoint.port) as new:
                        await call(new, rollout)
                    assert len(served) - before <= 50, f"a new connection, again: {again}"
                    before = len(served)
                    await call(kept, rollout)
                    assert len(served) - before <= 50, f"a kept connection, again: {again}"
                    await strangers.hear()
    assert len(served) >= 3 * STRANGERS


@pytest.mark.timeout(120)
@pytest.mark.once
async def test_a_crowd_without_a_key_costs_a_call_little_cpu() -> None:
    async def cost(strangers: Strangers | None) -> float:
        costs = []
        for _ in range(5):
            if strangers is not None:
                strangers.ask()
            began = time.process_time()
            async with connected(endpoint.port) as stream:
                await call(stream, rollout)
            costs.append(time.process_time() - began)
            if strangers is not None:
                await strangers.hear()
        return min(costs)

    with ExitStack() as stack:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            strangers = Strangers(stack, endpoint.port, ASKED["health"])
            slower = 3 if os.environ.get("COVERAGE_RUN") else 1  # `coverage` measures each line
            for _ in range(2):  # a loaded machine only adds to what one try measures
                alone, beside = await cost(None), await cost(strangers)
                if beside < (most := max(3 * alone, slower * 0.03)):
                    break
    assert beside < most


async def test_requests_without_a_key_are_served_though_connections_come_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They let a few go first, and then have their turn."""
    door = admission.Admission(admission.EndpointLimits())
    guest: Any = SimpleNamespace(in_turns=0)
    rounds = 0

    async def come() -> None:
        nonlocal rounds
        while True:
            door._entered += 1
            rounds += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        for _ in range(3):
            await door.wait_to_serve(guest, begins=True)
        nursery.cancel_scope.cancel()
    assert rounds <= 3 * (2 * admission.MOST_ROUNDS + 2)


async def test_a_request_that_is_cancelled_while_it_waits_to_be_served_gives_its_turn_back() -> None:
    door = admission.Admission(admission.EndpointLimits())
    guest: Any = SimpleNamespace(in_turns=0)
    for _ in range(3):
        with trio.CancelScope() as scope:
            scope.cancel()
            await door.wait_to_serve(guest, begins=True)
        assert scope.cancelled_caught
    await door.wait_to_serve(guest, begins=True)
    assert door.serving._taken == 0
    assert guest.in_turns == 0


@pytest.mark.once
async def test_handshakes_of_tls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    begun = most = 0
    real = trio.SSLStream.do_handshake

    async def do_handshake(self: Any) -> None:
        nonlocal begun
        begun += 1
        await real(self)

    class Rounds(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            nonlocal begun, most
            begun, most = 0, max(most, begun)

    hello = bytes.fromhex("16030100050100000100")  # the beginning of a handshake
    monkeypatch.setattr(trio.SSLStream, "do_handshake", do_handshake)
    with ExitStack() as stack:
        async with serve_endpoint(tls=tls) as endpoint:
            strangers = Strangers(stack, endpoint.port, hello)
            await trio.testing.wait_all_tasks_blocked(0.05)
            trio.lowlevel.add_instrument(Rounds())
            strangers.ask()
            await trio.testing.wait_all_tasks_blocked(0.05)
    assert 0 < most <= admission.AT_ONCE


class Passes(trio.abc.Instrument):
    """A count of the turns of the event loop."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.mark.once
@pytest.mark.parametrize(("leaves", "most"), [(True, 100), (False, 400)])
async def test_a_new_agent_waits_few_turns_of_the_event_loop_behind_many_new_strangers(
    leaves: bool, most: int
) -> None:
    """All of them are in the kernel's queue before it: each has sent one byte, and has left or stays."""
    passes, strangers = Passes(), 600
    with ExitStack() as stack:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as first:
                await call(first, rollout)
            address = ("127.0.0.1", endpoint.port)
            for _ in range(strangers):
                stranger = stack.enter_context(socket.create_connection(address))
                stranger.sendall(b"G")
                if leaves:
                    stranger.close()
            trio.lowlevel.add_instrument(passes)
            async with connected(endpoint.port) as new:
                await call(new, rollout)
            trio.lowlevel.remove_instrument(passes)
    assert passes.count < most


async def test_many_agents_that_connect_at_once_are_answered_after_few_turns_of_the_event_loop() -> None:
    """Before they have sent a key, nothing tells them from clients without one."""
    passes, agents, all_answered = Passes(), 300, trio.Event()
    answered = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal answered
        await exchange.respond("ok")
        answered += 1
        if answered == agents:
            all_answered.set()

    with ExitStack() as stack:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
            request = raw_request(rollout, json.dumps(ask_body()).encode())
            for _ in range(agents):
                agent = stack.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))
                agent.sendall(request)
            trio.lowlevel.add_instrument(passes)
            await all_answered.wait()
            trio.lowlevel.remove_instrument(passes)
    assert passes.count < 100


@pytest.mark.parametrize(
    ("keyless", "least", "most"),
    [(lambda number: False, 32, 64), (lambda number: True, 4, 4), (lambda number: number % 2, 4, 24)],
    ids=["none", "all", "every other"],
)
async def test_more_connections_are_read_at_once_only_while_all_of_them_send_a_key(
    keyless: Callable[[int], bool], least: int, most: int
) -> None:
    turns, guest, reading, seen = admission.Turns(admission.AT_ONCE), SimpleNamespace(in_turns=0), 0, 0

    async def connect(number: int) -> None:
        nonlocal reading, seen
        await turns.begin(guest, begins=True)
        reading += 1
        seen = max(seen, reading)
        await turns.end(guest)
        reading -= 1
        (turns.note_keyless if keyless(number) else turns.note_key)()

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(connect, number)
    assert least <= seen <= most
    assert (turns._taken, guest.in_turns) == (0, 0)


def note_admissions(monkeypatch: pytest.MonkeyPatch) -> list[admission.Admission]:
    """Return the list of the admissions of all endpoints that open from now on."""
    made: list[admission.Admission] = []

    def make(*args: Any) -> admission.Admission:
        made.append(admission.Admission(*args))
        return made[-1]

    monkeypatch.setattr(serve, "Admission", make)
    return made


@pytest.mark.parametrize("stranger", [b"G", b"GET /", ASKED["401 of a call"], ASKED["health"], b""])
async def test_after_a_client_without_a_key_as_few_connections_as_ever_are_read_at_once(
    stranger: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = note_admissions(monkeypatch)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        for _ in range(10):
            async with connected(endpoint.port) as stream:
                await call(stream, rollout)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert made[0].reading._most == 10
        async with connected(endpoint.port) as stream:
            if stranger:
                await stream.send_all(stranger)
                await trio.testing.wait_all_tasks_blocked(0.02)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert made[0].reading._most == admission.AT_ONCE


async def test_a_whole_request_whose_client_has_closed_its_sending_side_is_answered() -> None:
    """`nc` does so at once. Other clients that leave before they are accepted are closed, but for the first."""
    sent = (ASKED["health"], b"G", ASKED["health"][:-2], b"", ASKED["health"])
    answers: list[bytes] = []
    with ExitStack() as stack:
        async with serve_endpoint() as endpoint:
            address = ("127.0.0.1", endpoint.port)
            clients = [stack.enter_context(socket.create_connection(address)) for _ in sent]
            for client, data in zip(clients, sent, strict=True):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            for client in clients:
                await trio.lowlevel.wait_readable(client)
                answers.append(b"")
                with suppress(ConnectionResetError):
                    answers[-1] = client.recv(4096)
    assert [bool(answer) for answer in answers] == [True, False, False, False, True]
    assert answers[4].startswith(b"HTTP/1.1 200")


async def test_an_accepted_connection_that_no_task_gets_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(sock: object) -> trio.SocketStream:
        raise MemoryError

    with ExitStack() as stack:
        async with await open_listener("127.0.0.1", 0) as listener:
            address = listener.socket.getsockname()
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(3)]
            monkeypatch.setattr(trio, "SocketStream", fail)
            with pytest.raises(MemoryError):
                next(accept_waiting(listener, 9))
            monkeypatch.undo()
            clients[1].sendall(b"G")
            clients[1].close()
            for accepted in accept_waiting(listener, 9):
                await accepted.aclose()
            assert not list(accept_waiting(listener, 9))
            for client in (clients[0], clients[2]):
                await trio.lowlevel.wait_readable(client)
                assert client.recv(9) == b""


def leave(sock: socket.socket, how: str) -> None:
    if how == "half closed":
        sock.shutdown(socket.SHUT_WR)
    elif how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how != "half closed":
        sock.close()


@pytest.mark.parametrize("how", ["closed", "half closed", "reset"])
@pytest.mark.parametrize("when", ["at once", "once they are read"])
async def test_strangers_that_leave_within_their_head_leave_nothing_and_an_agent_is_served(
    how: str, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = note_admissions(monkeypatch)
    heads = [
        b"", b"P", b"GET /health HTTP/1.1\r\nHost: a\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: " + b"y" * 5_000,
        b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
        b"GET / HTTP/1.1\r\n\x00",
    ]  # fmt: skip
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        request = raw_request(rollout, json.dumps(ask_body()).encode())
        async with connected(endpoint.port) as agent:
            for _ in range(2):  # the second time nothing is imported or cached any more
                await trio.testing.wait_all_tasks_blocked(0.02)
                descriptors = len(os.listdir("/dev/fd"))
                strangers = []
                for number in range(200):
                    strangers.append(socket.create_connection(("127.0.0.1", endpoint.port)))
                    strangers[-1].sendall(heads[number % len(heads)])
                if when == "once they are read":
                    await trio.testing.wait_all_tasks_blocked(0.02)
                await agent.send_all(request)
                for stranger in strangers:
                    leave(stranger, how)
                assert b" 200 " in await read_answer(agent)
                async with connected(endpoint.port) as new:
                    await new.send_all(request)
                    assert b" 200 " in await read_answer(new)
                while made[0]._keyless:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                for stranger in strangers:
                    stranger.close()
                while len(os.listdir("/dev/fd")) != descriptors:
                    await trio.testing.wait_all_tasks_blocked(0.01)
        state = made[0]
        assert (state._heads, state._held, state._bytes_held) == ({}, {}, 0)
        assert (state.reading._taken, state.handshakes._taken, state.serving._taken) == (0, 0, 0)
    assert not [record for record in caplog.records if record.exc_info]
