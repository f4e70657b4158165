"""`PrimeTunnel`: the real package, between a stand-in of its service and one of its `frpc`."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import trio

from tests.agent.agent_helpers import CancelAt, end_program, open_program, serving, until
from tests.asking import CHAT, ask_body, bearer, echo
from tests.reach.prime_service import Service, frpc_processes, open_service
from triocept import Rollout, TunnelError, serve_endpoint
from triocept.tunnels import PrimeTunnel, TunnelHealth

pytest.importorskip("prime_tunnel", reason="the package prime-tunnel is not installed")

# The package leaves the pipes of a frpc that failed to start to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file <_io:ResourceWarning")

HEALTH = TunnelHealth(interval=0.1, failures=3, timeout=2, back_off=0.05, max_back_off=0.2, start_timeout=5)


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr("triocept._tunnel.prime.FIRST_PAUSE", 0.02)
    async with open_service(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture(autouse=True)
def no_frpc_is_left(tmp_path: Path) -> object:
    yield
    assert frpc_processes(tmp_path) == []
    assert list(tmp_path.glob(".prime/tunnels/*")) == []


async def asked(rollout: Rollout, text: str) -> str:
    url = rollout.base_url("openai_chat", reach="public").removesuffix("/v1") + CHAT
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, json=ask_body(text), headers=bearer(rollout))
    return str(answer.json()["choices"][0]["message"]["content"])


async def test_a_tunnel_is_registered_connected_and_deleted_at_the_end(
    service: Service, tmp_path: Path
) -> None:
    with trio.fail_after(30):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH) as endpoint:
            (tunnel,) = service.tunnels.values()
            assert endpoint.public_url == tunnel.url
            assert tunnel.local_port == endpoint.port
            assert frpc_processes(tmp_path) == [tunnel.frpc]
            async with endpoint.open_rollout(echo) as rollout:
                assert await asked(rollout, "in a sandbox") == "in a sandbox"
        assert service.deleted == [tunnel.id]


async def test_frpc_that_dies_is_started_anew_under_the_same_url_and_nobody_is_told(
    service: Service, tmp_path: Path
) -> None:
    with trio.fail_after(30):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH) as endpoint:
            (tunnel,) = service.tunnels.values()
            async with endpoint.open_rollout(echo) as rollout:
                assert await asked(rollout, "before") == "before"
                (first,) = frpc_processes(tmp_path)
                os.kill(first, signal.SIGKILL)
                await until(lambda: frpc_processes(tmp_path) not in ([], [first]) and tunnel.frpc)
                assert await asked(rollout, "after") == "after"
            assert endpoint.public_url == tunnel.url
        assert service.deleted == [tunnel.id]


async def test_a_tunnel_that_stops_serving_is_restarted_before_its_url_is_given_up(
    service: Service, tmp_path: Path
) -> None:
    with trio.fail_after(30):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH) as endpoint:
            (tunnel,) = service.tunnels.values()
            (first,) = frpc_processes(tmp_path)
            tunnel.status = "stale"  # its frpc runs, and its URL answers with an error page
            await until(lambda: frpc_processes(tmp_path) not in ([], [first]))
            await until(lambda: tunnel.status == "connected")
            assert await endpoint.wait_reachable() == tunnel.url
        assert len(service.starts) == 1


async def test_a_tunnel_that_expires_is_replaced_and_the_rollouts_that_hold_its_url_are_told(
    service: Service,
) -> None:
    with trio.fail_after(30):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH) as endpoint:
            (old,) = service.tunnels.values()
            with pytest.raises(TunnelError, match=f"the URL of the tunnel changed from {old.url} to"):
                async with endpoint.open_rollout(echo) as rollout:
                    rollout.environ(reach="public")
                    await service.expire(old.id)
                    await trio.sleep_forever()
            assert "tunnel is inactive" in str(endpoint._supervisor and endpoint._supervisor.error)
            assert await endpoint.wait_reachable() != old.url
            async with endpoint.open_rollout(echo) as rollout:
                assert await asked(rollout, "on") == "on"
        assert service.tunnels == {}


async def test_too_many_requests_and_server_errors_are_tried_again(service: Service) -> None:
    service.refusals = [(429, "Too many requests"), (503, "try later")]
    with trio.fail_after(30):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH) as endpoint:
            assert endpoint.reachable
    first, second, third = service.starts
    assert second - first >= 0.02
    assert third - second >= 0.04


async def test_starts_are_spaced_as_the_service_asks(service: Service) -> None:
    tunnel = PrimeTunnel(starts_per_minute=300)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                async with serve_endpoint(tunnel=tunnel, tunnel_health=HEALTH):
                    pass

            for _ in range(4):
                nursery.start_soon(start)
    assert len(service.starts) == 4
    assert max(service.starts) - min(service.starts) >= 0.55


@pytest.mark.parametrize(("refusal", "words", "tries"), [
    ((429, "Too many requests"), "Too many requests", 4),
    ((500, "it broke"), "it broke", 4),
    ((400, "Maximum number of tunnels (10) reached"), "TunnelLimitReachedError: Maximum number", 1),
    ((401, ""), "TunnelAuthError: API key unauthorized", 1),
    ((402, ""), "TunnelAuthError: Payment required", 1),
])  # fmt: skip
async def test_what_the_service_refuses_is_an_error_with_its_words(
    service: Service, refusal: tuple[int, str], words: str, tries: int
) -> None:
    service.refusals = [refusal] * 10
    with trio.fail_after(30), pytest.raises(TunnelError) as caught:
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
            raise AssertionError
    assert str(caught.value).startswith("PrimeTunnel(): ")
    assert words in str(caught.value)
    assert len(service.starts) == tries


async def test_without_a_key_the_error_names_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRIME_API_KEY")
    with trio.fail_after(30), pytest.raises(TunnelError, match="PRIME_API_KEY"):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
            raise AssertionError
    assert service.starts == []


async def test_a_service_that_is_not_there_is_an_error(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIME_API_BASE_URL", "http://127.0.0.1:9")
    with trio.fail_after(30), pytest.raises(TunnelError, match="Failed to connect to API"):
        async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
            raise AssertionError
    assert service.starts == []


async def test_frpc_that_never_connects_is_an_error_with_what_it_said(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._tunnel.prime.TRIES", 1)
    service.connects = False
    with trio.fail_after(30), pytest.raises(TunnelError, match="try to connect to server"):
        async with serve_endpoint(
            tunnel=PrimeTunnel(timeout=3), tunnel_health=HEALTH
        ):  # it is a Python: it starts slowly
            raise AssertionError
    assert service.tunnels == {}


async def test_an_endpoint_with_a_certificate_is_refused_in_words(service: Service) -> None:
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with trio.fail_after(30), pytest.raises(TunnelError, match="open the endpoint without tls="):
        async with serve_endpoint(tunnel=PrimeTunnel(), tls=context):
            raise AssertionError
    assert service.starts == []


# Cancellation


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_service_that_hangs_holds_up_nobody(
    service: Service, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._tunnel.prime.STOP_TIMEOUT", 0.3)
    monkeypatch.setattr("triocept._tunnel.asyncio_thread.CLEAN_UP", 0.3)
    service.hangs_at = method
    with trio.fail_after(10), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await (service.hanging.wait() if method == "POST" else until(lambda: service.starts))
                scope.cancel()

            nursery.start_soon(cancel)
            async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
                await trio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize("step", range(1, 100, 9))
async def test_a_start_can_be_cancelled_at_every_step(service: Service, step: int) -> None:
    with trio.fail_after(30), trio.CancelScope() as scope:
        instrument = CancelAt(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
                for _ in range(200):
                    await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.remove_instrument(instrument)
            scope.cancel()
    with trio.move_on_after(5):
        await until(lambda: not service.tunnels)
    assert service.tunnels == {}


async def test_a_registration_is_deleted_though_its_answer_came_after_the_cancellation(
    service: Service,
) -> None:
    service.answers_after = 0.2
    with trio.fail_after(30), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await until(lambda: service.tunnels)
                scope.cancel()

            nursery.start_soon(cancel)
            async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
                await trio.sleep_forever()
    assert service.tunnels == {}
    assert len(service.deleted) == 1


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5])
async def test_a_start_can_be_cancelled_at_any_time(service: Service, delay: float) -> None:
    with trio.fail_after(30):
        with trio.move_on_after(delay):
            async with serve_endpoint(tunnel=PrimeTunnel(), tunnel_health=HEALTH):
                await trio.sleep_forever()
        assert service.tunnels == {}


@pytest.mark.parametrize("how", ["ctrl-c", "killed"])
async def test_no_frpc_outlives_the_program(service: Service, how: str, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_program(serving("tunnels.PrimeTunnel()")) as program:
            assert await program.line() == "up"
            assert len(frpc_processes(tmp_path)) == 1
            await end_program(program, how, lambda: frpc_processes(tmp_path))
            if how == "ctrl-c":
                assert service.tunnels == {}
            else:
                for file in tmp_path.glob(".prime/tunnels/*"):  # nobody was there to take it away
                    file.unlink()
