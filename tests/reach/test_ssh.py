"""Through a real sshd, started here with keys of its own."""

import json
import os
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
import trio
import trustme

from tests.agent.agent_helpers import CancelAt, end_program, open_program, serving, until
from tests.asking import connected, echo
from tests.ports import refusing_port
from tests.reach.programs import SSHD, each_process, open_sshd
from triocept import Exchange, Rollout, TunnelError, serve_endpoint
from triocept.tunnels import SSHTunnel, TunnelHealth

# The SDK leaves its async generators where a stream ends or fails; trio warns, and closes them.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(openai|httpx2|httpcore2)\S*' was garbage collected:ResourceWarning"
)

EVENTS = 100
QUICK = TunnelHealth(interval=0.1, back_off=0.05, max_back_off=0.2, start_timeout=2)


@pytest.fixture
async def sshd(tmp_path: Path) -> AsyncIterator[SSHD]:
    async with open_sshd(tmp_path / "sshd") as server:
        yield server


def tunnel_to(server: SSHD, *options: str, public_host: str | None = None) -> SSHTunnel:
    return SSHTunnel(
        server.destination,
        port=server.port,
        identity=server.identity,
        options=[*options, *server.options],
        public_host=public_host,
    )


def tagged(tag: str) -> tuple[str, str]:
    """An option that does nothing but be in the command line."""
    return ("-o", f"SetEnv=TRIOCEPT_TEST={tag}")


def ssh_processes(tag: str) -> list[int]:
    return [pid for pid, name in each_process(tag) if name == "ssh"]


async def said(rollout: Rollout, text: str) -> str:
    """What the official SDK gets through the tunnel."""
    config = rollout.config("openai_chat", reach="public")
    async with openai.AsyncOpenAI(base_url=config.base_url, api_key=config.api_key, max_retries=0) as client:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


async def test_the_other_side_picks_the_port_and_an_agent_there_is_answered(sshd: SSHD) -> None:
    with trio.fail_after(30):
        async with serve_endpoint(tunnel=tunnel_to(sshd)) as endpoint:
            assert endpoint.public_url.startswith("http://127.0.0.1:")
            assert endpoint.public_url != endpoint.url
            async with endpoint.open_rollout(echo) as rollout:
                assert await said(rollout, "over there") == "over there"
            port = int(endpoint.public_url.rpartition(":")[2])
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            async with connected(port):
                raise AssertionError("the forwarding must end with the endpoint")


async def test_a_stream_arrives_event_by_event_and_the_tunnel_adds_little_to_each(
    sshd: SSHD, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, arrived = [0.0] * EVENTS, trio.Semaphore(0)

    async def answer(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for number in range(EVENTS):
                sent[number] = time.perf_counter()
                await stream.send(f"{number} ")
                await arrived.acquire()  # the next is sent when this one has arrived, or never

    async def latencies(rollout: Rollout, reach: str) -> list[float]:
        config = rollout.config("openai_chat", reach=reach)  # type: ignore[arg-type]
        found = []
        async with openai.AsyncOpenAI(base_url=config.base_url, api_key=config.api_key) as client:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "count"}], stream=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    found.append(time.perf_counter() - sent[len(found)])
                    arrived.release()
        return found

    with trio.fail_after(60):
        async with serve_endpoint(tunnel=tunnel_to(sshd)) as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                direct = await latencies(rollout, "local")
                through = await latencies(rollout, "public")
    assert len(direct) == len(through) == EVENTS
    # The quickest tenth: what every event waits for is in these too, and other work of this machine is not.
    quick, quicker = (statistics.quantiles(each, n=10)[0] for each in (through, direct))
    added = quick - quicker
    with capsys.disabled():
        print(
            f"\nper event: {quicker * 1000:.2f} ms direct, "
            f"{quick * 1000:.2f} ms through sshd (added {added * 1000:.2f} ms, "
            f"worst {max(through) * 1000:.1f} ms)"
        )
    assert added < 0.03  # a delayed acknowledgement alone, for want of TCP_NODELAY, takes 0.04


async def test_an_sshd_that_is_killed_in_mid_stream_ends_it_visibly_and_its_url_comes_back(
    sshd: SSHD,
) -> None:
    cancelled = trio.Event()

    async def answer(exchange: Exchange) -> None:
        if not exchange.request.stream:
            await exchange.respond("again")
            return
        try:
            async with exchange.open_stream() as stream:
                await stream.send("half ")
                await trio.sleep_forever()
        finally:
            cancelled.set()

    with trio.fail_after(60):
        async with serve_endpoint(tunnel=tunnel_to(sshd), tunnel_health=QUICK) as endpoint:
            url = endpoint.public_url
            async with endpoint.open_rollout(answer) as rollout:
                config = rollout.config("openai_chat", reach="public")
                async with openai.AsyncOpenAI(
                    base_url=config.base_url, api_key=config.api_key, max_retries=0
                ) as client:
                    stream = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": "x"}], stream=True
                    )
                    with pytest.raises((openai.APIError, httpx2.TransportError)):
                        async for _ in stream:
                            sshd.kill()
                await cancelled.wait()
                await until(lambda: not endpoint.reachable)
                with pytest.raises(TunnelError, match=r"is down|opened again"):
                    _ = endpoint.public_url
                await sshd.start()
                assert await endpoint.wait_reachable() == url
                assert await said(rollout, "?") == "again"
            assert [turn.outcome for turn in rollout.trace] == ["abandoned", "answered"]


async def test_a_port_that_another_has_taken_meanwhile_is_given_up_and_the_rollout_is_told(
    sshd: SSHD,
) -> None:
    with trio.fail_after(60):
        async with serve_endpoint(tunnel=tunnel_to(sshd), tunnel_health=QUICK) as endpoint:
            url = endpoint.public_url
            with pytest.raises(TunnelError, match=f"the URL of the tunnel changed from {url} to"):
                async with endpoint.open_rollout(echo) as rollout:
                    rollout.environ(reach="public")
                    sshd.kill()
                    await until(lambda: not endpoint.reachable)
                    taken = await trio.open_tcp_listeners(int(url.rpartition(":")[2]), host="127.0.0.1")
                    try:
                        await sshd.start()
                        await trio.sleep_forever()
                    finally:
                        await taken[0].aclose()
            assert await endpoint.wait_reachable() != url


async def test_an_endpoint_with_a_certificate_is_https_through_the_tunnel(sshd: SSHD) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with trio.fail_after(30):
        async with serve_endpoint(tls=server, tunnel=tunnel_to(sshd)) as endpoint:
            assert endpoint.public_url.startswith("https://127.0.0.1:")
            port = int(endpoint.public_url.rpartition(":")[2])
            async with connected(port) as raw:
                async with trio.SSLStream(raw, client, server_hostname="127.0.0.1") as stream:
                    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert b" 200 " in await stream.receive_some()


async def test_a_public_host_is_tried_through_its_url(tmp_path: Path) -> None:
    async with open_sshd(tmp_path / "sshd", "GatewayPorts clientspecified") as server:
        with trio.fail_after(30):
            # All of 127/8 is this machine, but only 127.0.0.1 is where an unwilling sshd would listen.
            async with serve_endpoint(tunnel=tunnel_to(server, public_host="127.0.0.2")) as endpoint:
                assert endpoint.public_url.startswith("http://127.0.0.2:")
                async with endpoint.open_rollout(echo) as rollout:
                    assert await said(rollout, "from afar") == "from afar"


# What goes wrong, before the body runs


async def refused(tunnel: SSHTunnel) -> str:
    with pytest.raises(TunnelError) as caught:
        async with serve_endpoint(tunnel=tunnel, tunnel_health=QUICK):
            raise AssertionError("the body must not run")
    return str(caught.value)


async def test_a_public_host_that_its_sshd_does_not_serve_is_an_error(sshd: SSHD) -> None:
    with trio.fail_after(30):
        text = await refused(tunnel_to(sshd, public_host="127.0.0.2"))
    assert "http://127.0.0.2:" in text
    assert "/health does not answer" in text


async def test_without_ssh_the_error_says_so(
    sshd: SSHD, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with trio.fail_after(30):
        text = await refused(tunnel_to(sshd))
    assert text == (
        f"SSHTunnel({sshd.destination!r}): 'ssh' cannot be started: "
        "there is no such command on the PATH in its environment: install the command, or pass its full path"
    )


async def test_a_wrong_host_key_is_an_error_with_sshs_own_words(sshd: SSHD, tmp_path: Path) -> None:
    other = SSHD(tmp_path / "other")
    key = (other.folder / "host.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {' '.join(key)}\n")
    with trio.fail_after(30):
        text = await refused(tunnel_to(sshd))
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in text
    assert "Host key verification failed." in text


async def test_an_unknown_host_is_an_error_and_no_question(sshd: SSHD) -> None:
    sshd.known_hosts.write_text("")
    with trio.fail_after(30):
        assert "Host key verification failed." in await refused(tunnel_to(sshd))


async def test_a_key_that_is_not_let_in_is_an_error(sshd: SSHD, tmp_path: Path) -> None:
    other = SSHD(tmp_path / "other")
    tunnel = SSHTunnel(sshd.destination, port=sshd.port, identity=other.identity, options=sshd.options)
    with trio.fail_after(30):
        assert "Permission denied (publickey)" in await refused(tunnel)


async def test_a_refused_forwarding_is_an_error(tmp_path: Path) -> None:
    async with open_sshd(tmp_path / "sshd", "AllowTcpForwarding no") as server:
        with trio.fail_after(30):
            assert "remote port forwarding failed" in await refused(tunnel_to(server))


async def test_a_host_where_nobody_listens_is_an_error(sshd: SSHD) -> None:
    with refusing_port() as port, trio.fail_after(30):
        tunnel = SSHTunnel(sshd.destination, port=port, options=sshd.options)
        assert "Connection refused" in await refused(tunnel)


# Nothing is left


@pytest.mark.parametrize("step", range(1, 120, 7))
async def test_a_start_that_is_cancelled_at_any_step_leaves_no_ssh(sshd: SSHD, step: int) -> None:
    tag = f"step-{step}-{sshd.port}"
    with trio.fail_after(30), trio.CancelScope() as scope:
        instrument = CancelAt(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            async with serve_endpoint(tunnel=tunnel_to(sshd, *tagged(tag))):
                for _ in range(200):
                    await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.remove_instrument(instrument)
            scope.cancel()
    assert ssh_processes(tag) == []


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0])
async def test_a_start_that_is_cancelled_at_any_time_leaves_no_ssh(sshd: SSHD, delay: float) -> None:
    tag = f"delay-{delay}-{sshd.port}"
    with trio.fail_after(30), trio.move_on_after(delay):
        async with serve_endpoint(tunnel=tunnel_to(sshd, *tagged(tag))):
            assert len(ssh_processes(tag)) == 1
            await trio.sleep_forever()
    assert ssh_processes(tag) == []


@pytest.mark.parametrize("how", ["ctrl-c", "killed"])
async def test_no_ssh_outlives_the_program(sshd: SSHD, how: str) -> None:
    tag = f"{how}-{sshd.port}"
    options = {"port": sshd.port, "identity": str(sshd.identity), "options": [*tagged(tag), *sshd.options]}
    source = serving("tunnels.SSHTunnel(sys.argv[1], **json.loads(sys.argv[2]))")
    with trio.fail_after(30):
        async with open_program(source, sshd.destination, json.dumps(options)) as program:
            assert await program.line() == "up"
            assert len(ssh_processes(tag)) == 1
            await end_program(program, how, lambda: ssh_processes(tag))


async def test_the_example_in_the_documentation_runs_an_agent_on_the_other_host(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "docs" / "examples"
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    claude = bin_ / "claude"
    claude.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{examples / "tiny_agent.py"}" "$@"\n')
    claude.chmod(0o755)
    async with open_sshd(tmp_path / "sshd", f"SetEnv PATH={bin_}:/usr/bin:/bin") as server:
        options = ["-p", str(server.port), "-i", str(server.identity), *server.options]
        with trio.fail_after(60):
            done = await trio.run_process(
                [sys.executable, str(examples / "agent_over_ssh.py"), server.destination, *options],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**os.environ, "PYTHONPATH": str(examples.parents[1])},
            )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"The bug is fixed." in done.stdout
