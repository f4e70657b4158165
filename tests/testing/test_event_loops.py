"""One client for the whole process, and an event loop for each test: no connection of a loop that has ended is used."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import httpx2
import pytest
import trio

from triocept.testing import SyncRollout, fake_model, serve

Test = Callable[[], Awaitable[str]]


def by_asyncio(test: Test) -> str:
    async def main() -> str:
        return await test()

    return asyncio.run(main())


def by_trio(test: Test) -> str:
    return trio.run(test)


@pytest.mark.parametrize("run", [by_asyncio, by_trio])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_of_the_process_reaches_each_model_from_a_loop_of_its_own(
    run: Callable[[Test], str], streamed: bool
) -> None:
    client = httpx2.AsyncClient(timeout=20)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}

    async def ask(model: SyncRollout) -> str:
        url = f"{model.base_url('openai_chat')}/chat/completions"
        key = {"authorization": f"Bearer {model.api_key}"}
        return (await client.post(url, json=body, headers=key)).text

    with serve() as endpoint:
        for number in range(3):
            with fake_model(f"answer-{number}", endpoint=endpoint) as model:
                assert f"answer-{number}" in run(partial(ask, model))
