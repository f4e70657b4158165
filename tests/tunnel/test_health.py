"""A tunnel is tried through its own URL, watched, and opened again; who holds a lost URL is told."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx2
import msgspec
import pytest
import trio
import trio.testing

from tests.agent.agent_helpers import CancelAt
from tests.asking import CHAT, ask_body, bearer, echo
from tests.ports import refusing_port
from tests.tunnel.relay import Relay
from triocept import Exchange, Rollout, TunnelError, serve_endpoint
from triocept.tunnels import FixedURL, Tunnel, TunnelHealth

QUICK = TunnelHealth(
    interval=0.02, timeout=2, failures=2, back_off=0.01, max_back_off=0.05, start_timeout=0.5, patience=100
)
STEADY = msgspec.structs.replace(QUICK, timeout=20, start_timeout=20)
"""For tunnels that answer, also on a busy machine."""


async def ask_public(rollout: Rollout, text: str = "hi") -> httpx2.Response:
    url = rollout.base_url("openai_chat", reach="public").removesuffix("/v1") + CHAT
    async with httpx2.AsyncClient() as client:
        return await client.post(url, json=ask_body(text), headers=bearer(rollout))


async def until_reopened(relay: Relay, count: int) -> None:
    while len(relay.opened) < count or not relay.open_now:
        await trio.sleep(0.005)


# Before the body


async def test_a_tunnel_that_refuses_is_an_error_before_the_body_runs() -> None:
    relay = Relay()
    relay.refuses = 1
    with pytest.raises(TunnelError, match=r"^the relay refuses$"):
        async with serve_endpoint(tunnel=relay, tunnel_health=QUICK):
            raise AssertionError
    assert relay.open_now == 0


async def test_a_url_that_does_not_answer_is_an_error_before_the_body_runs() -> None:
    with refusing_port() as port, pytest.raises(TunnelError, match="does not answer"):
        async with serve_endpoint(tunnel=FixedURL(f"http://127.0.0.1:{port}"), tunnel_health=QUICK):
            raise AssertionError


async def test_a_url_that_accepts_and_says_nothing_is_an_error_in_time() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(TunnelError, match=r"within 0.5 s"):
            async with serve_endpoint(tunnel=FixedURL(f"http://127.0.0.1:{port}"), tunnel_health=QUICK):
                raise AssertionError


async def test_an_error_page_of_a_proxy_is_shown_and_is_no_answer() -> None:
    relay = Relay()
    relay.broken = True
    with pytest.raises(TunnelError, match="answers with the status 502: <html>no"):
        async with serve_endpoint(tunnel=relay, tunnel_health=QUICK):
            raise AssertionError


@pytest.mark.parametrize("page", [b'{"a": "\xff"}', b"[" * 4000, b"hello"], ids=["bytes", "nested", "text"])
async def test_a_url_that_leads_to_something_else_is_an_error_whatever_that_says(page: bytes) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + page)

    async with trio.open_nursery() as nursery:
        listener = (await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1")))[0]
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(TunnelError, match="does not lead to a triocept endpoint"):
            async with serve_endpoint(tunnel=FixedURL(url), tunnel_health=QUICK):
                raise AssertionError
        nursery.cancel_scope.cancel()


async def test_a_url_that_leads_to_another_endpoint_is_an_error() -> None:
    async with serve_endpoint() as other:
        with pytest.raises(TunnelError, match=f"another endpoint, {other.id}"):
            async with serve_endpoint(tunnel=FixedURL(other.url), tunnel_health=QUICK):
                raise AssertionError


async def test_without_health_nothing_is_asked_through_the_url() -> None:
    async with serve_endpoint(tunnel=FixedURL("http://nowhere.invalid/x/"), tunnel_health=None) as endpoint:
        assert endpoint.public_url == "http://nowhere.invalid/x"


class Foreign(Tunnel):
    """A tunnel as somebody else may write it."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.die = trio.Event()

    @asynccontextmanager
    async def open(self, port: int, **_: Any) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work)
            yield self.url or f"http://127.0.0.1:{port}"
            nursery.cancel_scope.cancel()

    async def _work(self) -> None:
        await self.die.wait()
        raise ZeroDivisionError("theirs")


async def test_what_a_tunnel_gives_must_be_a_url() -> None:
    with pytest.raises(TunnelError, match="must be a URL that begins with http"):
        async with serve_endpoint(tunnel=Foreign("nonsense")):
            raise AssertionError


@pytest.mark.parametrize("step", range(1, 60))
async def test_a_start_can_be_cancelled_at_every_step(step: int) -> None:
    relay = Relay()
    with trio.CancelScope() as scope:
        instrument = CancelAt(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            async with serve_endpoint(tunnel=relay, tunnel_health=STEADY):
                for _ in range(60):
                    await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.remove_instrument(instrument)
            scope.cancel()
    assert relay.open_now == 0


# While it runs


async def test_the_bodys_own_error_leaves_bare_and_the_tunnel_is_closed() -> None:
    relay = Relay()
    with pytest.raises(KeyError, match="mine"):
        async with serve_endpoint(tunnel=relay, tunnel_health=STEADY):
            raise KeyError("mine")
    assert relay.open_now == 0


async def test_a_tunnel_that_dies_is_opened_again_and_the_same_url_tells_nobody() -> None:
    relay = Relay(same_port=True)
    async with serve_endpoint(tunnel=relay, tunnel_health=STEADY) as endpoint:
        async with endpoint.open_rollout(echo) as rollout:
            assert (await ask_public(rollout)).status_code == 200
            url = endpoint.public_url
            relay.cut()
            await until_reopened(relay, 2)
            assert await endpoint.wait_reachable() == url
            assert (await ask_public(rollout, "again")).status_code == 200
    assert relay.previous == [None, url]


async def test_a_rollout_that_holds_a_lost_url_is_told_and_the_others_are_not() -> None:
    relay = Relay()
    finished = []
    async with serve_endpoint(tunnel=relay, tunnel_health=STEADY) as endpoint:
        old = endpoint.public_url
        async with trio.open_nursery() as nursery:

            async def local() -> None:
                async with endpoint.open_rollout(echo) as rollout:
                    rollout.environ()
                    while len(relay.opened) < 2 or not endpoint.reachable:
                        await trio.sleep(0.005)
                    await trio.sleep(0.05)
                    finished.append(rollout.id)

            nursery.start_soon(local)
            with pytest.raises(TunnelError, match=f"the URL of the tunnel changed from {old} to"):
                async with endpoint.open_rollout(echo) as rollout:
                    rollout.environ(reach="public")
                    relay.cut()
                    await trio.sleep_forever()
        assert len(finished) == 1
        assert endpoint.public_url == relay.opened[-1] != old
        async with endpoint.open_rollout(echo) as rollout:
            assert (await ask_public(rollout)).status_code == 200


async def test_by_policy_a_rollout_moves_to_the_new_url() -> None:
    relay = Relay()
    async with serve_endpoint(tunnel=relay, tunnel_health=STEADY, on_lost_url="move") as endpoint:
        async with endpoint.open_rollout(echo) as rollout:
            before = rollout.environ(reach="public")
            relay.cut()
            await until_reopened(relay, 2)
            await endpoint.wait_reachable()
            after = rollout.environ(reach="public")
            assert before["OPENAI_BASE_URL"] != after["OPENAI_BASE_URL"]
            assert before["OPENAI_API_KEY"] == after["OPENAI_API_KEY"]
            assert (await ask_public(rollout)).status_code == 200


async def test_after_its_patience_those_who_hold_the_url_of_a_dead_tunnel_are_told() -> None:
    relay = Relay()
    health = TunnelHealth(interval=0.02, back_off=0.01, max_back_off=0.02, patience=0.1)
    async with serve_endpoint(tunnel=relay, tunnel_health=health) as endpoint:
        start = trio.current_time()
        with pytest.raises(TunnelError, match="has ended: the relay refuses"):
            async with endpoint.open_rollout(echo) as rollout:
                rollout.environ(reach="public")
                relay.refuses = 10**9
                relay.cut()
                await trio.sleep_forever()
        assert trio.current_time() - start >= 0.1
        assert not endpoint.reachable
        with pytest.raises(TunnelError, match=r"The last error was: the relay refuses"):
            _ = endpoint.public_url
        relay.refuses = 0
        await endpoint.wait_reachable()


async def test_a_url_that_stops_to_answer_is_dead_though_its_tunnel_is_open() -> None:
    relay = Relay()
    async with serve_endpoint(tunnel=relay, tunnel_health=STEADY, on_lost_url="move") as endpoint:
        relay.broken = True
        while endpoint.reachable:
            await trio.sleep(0.005)
        with pytest.raises(TunnelError, match="answers with the status 502"):
            _ = endpoint.public_url
        relay.broken = False
        assert await endpoint.wait_reachable() == relay.opened[-1]
        assert relay.open_now == 1


async def test_a_url_that_answers_for_another_endpoint_is_dead() -> None:
    relay = Relay()
    async with serve_endpoint() as other, serve_endpoint(tunnel=relay, tunnel_health=STEADY) as endpoint:
        relay.target = other.port
        while endpoint.reachable:
            await trio.sleep(0.005)
        with pytest.raises(TunnelError, match="another endpoint"):
            _ = endpoint.public_url


async def test_a_tunnel_that_can_be_revived_keeps_its_url() -> None:
    relay = Relay()
    relay.revives = True
    async with serve_endpoint(tunnel=relay, tunnel_health=STEADY) as endpoint:
        relay.broken = True
        while not relay.revived:
            await trio.sleep(0.005)
        await trio.sleep(0.1)
        assert endpoint.reachable
    assert len(relay.opened) == 1


async def test_a_tunnel_that_raises_anything_later_is_only_down() -> None:
    foreign = Foreign()
    async with serve_endpoint(tunnel=foreign, tunnel_health=STEADY) as endpoint:
        foreign.die.set()
        while endpoint.reachable:
            await trio.sleep(0.005)
        with pytest.raises(TunnelError, match=r"ZeroDivisionError\('theirs'\)"):
            _ = endpoint.public_url


class FailsAsItCloses(Foreign):
    async def _work(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError("theirs")


async def test_a_tunnel_that_raises_while_the_endpoint_closes_it_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve_endpoint(tunnel=FailsAsItCloses(), tunnel_health=STEADY) as endpoint:
        assert endpoint.reachable
    assert "ZeroDivisionError('theirs')" in caplog.text


async def test_an_open_stream_ends_visibly_when_its_tunnel_is_cut() -> None:
    relay = Relay()
    begun, cancelled = trio.Event(), trio.Event()

    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("one ")
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()

    async with serve_endpoint(tunnel=relay, tunnel_health=STEADY, on_lost_url="move") as endpoint:
        async with endpoint.open_rollout(answer) as rollout:
            url = rollout.base_url("openai_chat", reach="public").removesuffix("/v1") + CHAT
            async with httpx2.AsyncClient() as client:
                with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
                    async with client.stream(
                        "POST", url, json=ask_body(stream=True), headers=bearer(rollout)
                    ) as response:
                        async for _ in response.aiter_raw():
                            await begun.wait()
                            relay.cut()
            await cancelled.wait()
        assert [turn.outcome for turn in rollout.trace] == ["abandoned"]


async def test_ctrl_c_in_the_tunnels_task_ends_the_program_and_not_only_the_tunnel() -> None:
    class Interrupted(Relay):
        async def revive(self, url: str) -> bool:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep(1)
            raise AssertionError("the signal must have come")

    relay = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        async with serve_endpoint(tunnel=relay, tunnel_health=STEADY):
            relay.broken = True
            await trio.sleep_forever()
    assert relay.open_now == 0


async def test_the_last_answers_go_through_the_tunnel_also_when_all_is_cancelled() -> None:
    relay, waiting = Relay(), trio.Event()
    answers: list[httpx2.Response] = []

    async def answer(exchange: Exchange) -> None:
        waiting.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as agents:
        with trio.CancelScope() as scope:
            async with serve_endpoint(tunnel=relay, tunnel_health=STEADY) as endpoint:
                async with endpoint.open_rollout(answer) as rollout:

                    async def agent() -> None:
                        answers.append(await ask_public(rollout))

                    agents.start_soon(agent)
                    await waiting.wait()
                    scope.cancel()
                    await trio.sleep_forever()
    assert [one.status_code for one in answers] == [503]
    assert relay.open_now == 0
