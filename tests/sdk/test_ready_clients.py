"""The clients that a rollout gives: nothing stands between them and their rollout, and none waits for itself."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.asking import echo
from tests.ports import refusing_port
from triocept import serve_endpoint

ASK: dict[str, Callable[[Any], Any]] = {
    "openai_chat": lambda client: client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}]
    ),
    "openai_responses": lambda client: client.responses.create(model="m", input="x"),
    "anthropic_messages": lambda client: client.messages.create(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}]
    ),
}


@pytest.mark.parametrize("dialect", ASK)
async def test_no_proxy_of_the_environment_stands_between_a_client_and_its_rollout(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have the key, and could not come back to here."""
    with refusing_port() as nobody:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{nobody}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            async with rollout.client(dialect, max_retries=0, timeout=20.0) as client:
                await ASK[dialect](client)
                assert client.timeout == 20.0
            with rollout.client(dialect, sync=True, max_retries=0) as client:
                await trio.to_thread.run_sync(ASK[dialect], client)
            assert len(rollout.trace) == 2


@pytest.mark.parametrize("dialect", ASK)
async def test_a_blocking_client_in_trios_own_thread_says_so_and_does_not_wait_for_ever(dialect: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with rollout.client(dialect, sync=True) as client:
            with pytest.raises(
                RuntimeError, match="a blocking client in trio's own thread would never return"
            ):
                ASK[dialect](client)
            with pytest.raises(RuntimeError, match="a blocking client"):
                ASK[dialect](client.with_options(max_retries=0))
            await trio.to_thread.run_sync(ASK[dialect], client)
        assert len(rollout.trace) == 1


async def test_a_blocking_client_may_be_asked_in_another_run_of_trio() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with rollout.client("openai_chat", sync=True) as client:

            async def elsewhere() -> None:
                ASK["openai_chat"](client)
                await trio.lowlevel.checkpoint()

            await trio.to_thread.run_sync(trio.run, elsewhere)
            assert len(rollout.trace) == 1


async def test_what_has_no_ready_client_has_a_configuration() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(ValueError, match=r"api_key and the model of rollout.config\('gemini'\)"):
            rollout.client("gemini")


@pytest.mark.parametrize(
    ("dialect", "package"), [("openai_chat", "openai"), ("anthropic_messages", "anthropic")]
)
async def test_a_client_whose_sdk_is_not_installed_says_what_to_install(
    dialect: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(ModuleNotFoundError, match=rf"pip install 'triocept\[{package}\]'"):
            rollout.client(dialect)
