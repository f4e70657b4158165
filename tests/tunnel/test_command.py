"""A tunnel that is a program: started, read, watched and ended as an agent is."""

import os
import signal

import pytest
import trio

from tests.agent.agent_helpers import (
    end_program,
    open_program,
    running,
    serving,
    unique_seconds,
    until,
    until_sleeping,
)
from tests.asking import connected
from triocept import TunnelError, serve_endpoint
from triocept.tunnels import CommandTunnel, TunnelHealth

PRINTS = "echo 'see https://manual.example/ | {url}'; exec sleep {tag}"
"""What a tunnel that leads to where it came from would do."""


def command(script: str, tag: str = "0", **options: object) -> CommandTunnel:
    options.setdefault("pattern", r"\| (\S+)")
    return CommandTunnel(["sh", "-c", script.replace("{tag}", tag)], **options)  # type: ignore[arg-type]


async def test_the_url_that_a_program_prints_is_the_public_one_and_the_program_ends_with_the_endpoint() -> (
    None
):
    tag = unique_seconds()
    async with serve_endpoint(tunnel=command(PRINTS, tag)) as endpoint:
        assert endpoint.public_url == endpoint.url
        await until_sleeping(tag, 1)
    assert running(tag) == []


async def test_the_live_port_host_and_url_stand_in_the_command() -> None:
    script = '[ "$0" = 127.0.0.1:{port} ] && echo "| {url}" && exec sleep {tag}'
    tag = unique_seconds()
    tunnel = CommandTunnel(["sh", "-c", script.replace("{tag}", tag), "{host}:{port}"], pattern=r"\| (\S+)")
    async with serve_endpoint(tunnel=tunnel) as endpoint:
        assert endpoint.public_url == endpoint.url
    assert running(tag) == []


async def test_a_url_on_stderr_is_found_too_and_one_without_a_scheme_is_http() -> None:
    tag = unique_seconds()
    script = "echo 'listening at 127.0.0.1:{port}' >&2; exec sleep {tag}"
    async with serve_endpoint(tunnel=command(script, tag, pattern=r"listening at (\S+)")) as endpoint:
        assert endpoint.public_url == endpoint.url


async def test_by_default_the_first_url_that_is_not_this_machine_is_taken() -> None:
    tag = unique_seconds()
    script = (
        "echo 'from http://localhost:{port} http://127.0.0.1:4040 to https://a.example/x'; exec sleep {tag}"
    )
    tunnel = CommandTunnel(["sh", "-c", script.replace("{tag}", tag)])
    async with serve_endpoint(tunnel=tunnel, tunnel_health=None) as endpoint:
        assert endpoint.public_url == "https://a.example/x"


# What goes wrong


async def test_a_command_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(TunnelError, match=r"'no-such-tunnel' cannot be started: .* PATH"):
        async with serve_endpoint(tunnel=CommandTunnel(["no-such-tunnel"])):
            raise AssertionError


async def test_a_command_that_exits_is_an_error_with_its_own_last_words() -> None:
    script = "echo working; echo 'account suspended' >&2; printf 'bye'; exit 3"
    with pytest.raises(TunnelError, match="return code 3") as caught:
        async with serve_endpoint(tunnel=command(script)):
            raise AssertionError
    assert set(str(caught.value).splitlines()[1:]) == {"working", "account suspended", "bye"}


async def test_a_command_that_never_prints_its_url_is_an_error_in_time_and_ends() -> None:
    tag = unique_seconds()
    script = "echo 'asking for a name'; exec sleep {tag}"
    with pytest.raises(TunnelError, match=r"did not print its public URL within 2 s.*\nasking for a name"):
        async with serve_endpoint(tunnel=command(script, tag, timeout=2)):
            raise AssertionError
    assert running(tag) == []


async def test_a_command_that_talks_without_end_does_not_fill_memory_and_still_ends() -> None:
    script = "while :; do echo 0123456789012345678901234567890123456789; done"
    with pytest.raises(TunnelError, match="did not print") as caught:
        async with serve_endpoint(tunnel=command(script, timeout=0.3)):
            raise AssertionError
    assert len(str(caught.value)) < 2000


async def test_what_a_command_prints_must_be_a_url() -> None:
    script = "echo '| https://'; sleep 60"
    with pytest.raises(TunnelError, match="must be a URL"):
        async with serve_endpoint(tunnel=command(script)):
            raise AssertionError


async def test_keys_in_its_environment_are_not_in_the_error() -> None:
    script = 'echo "bad token $TUNNEL_TOKEN"; exit 1'
    with pytest.raises(TunnelError, match=r"bad token \*\*\*"):
        async with serve_endpoint(tunnel=command(script, env={"TUNNEL_TOKEN": "tok-0123456789"})):
            raise AssertionError


def test_neither_its_arguments_nor_its_environment_are_in_its_repr() -> None:
    tunnel = CommandTunnel(["ngrok", "--authtoken", "secret"], env={"A": "secret"})
    assert repr(tunnel) == "CommandTunnel('ngrok')"


def test_a_command_in_one_str_is_a_typeerror_and_a_bad_pattern_a_valueerror() -> None:
    with pytest.raises(TypeError, match="not one str"):
        CommandTunnel("cloudflared tunnel")
    with pytest.raises(ValueError, match="empty"):
        CommandTunnel([])
    with pytest.raises(ValueError, match="regular expression"):
        CommandTunnel(["a"], pattern="(")


async def test_a_command_that_dies_later_is_started_again() -> None:
    tag = unique_seconds()
    health = TunnelHealth(back_off=0.01)
    async with serve_endpoint(tunnel=command(PRINTS, tag), tunnel_health=health) as endpoint:
        await until_sleeping(tag, 1)
        (first,) = running(tag)
        os.kill(first, signal.SIGKILL)
        await until(lambda: running(tag) and running(tag) != [first])
        await endpoint.wait_reachable()
        async with connected(endpoint.port):
            pass
    assert running(tag) == []


# No orphan


async def test_a_command_ends_when_its_start_is_cancelled() -> None:
    tag = unique_seconds()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                async with serve_endpoint(tunnel=command("exec sleep {tag}", tag)):
                    raise AssertionError

            nursery.start_soon(start)
            await until_sleeping(tag, 1)
            scope.cancel()
    assert running(tag) == []


@pytest.mark.parametrize("how", ["ctrl-c", "killed"])
async def test_no_command_outlives_the_program(how: str) -> None:
    tag = unique_seconds()
    script = PRINTS.replace("exec sleep {tag}", f"setsid sleep {tag} & exec sleep {tag}")
    source = serving("""tunnels.CommandTunnel(["sh", "-c", sys.argv[1]], pattern=r"[|] ([^ ]+)")""")
    async with open_program(source, script) as program:
        assert await program.line() == "up"
        await until_sleeping(tag, 2)
        await end_program(program, how, lambda: running(tag))
