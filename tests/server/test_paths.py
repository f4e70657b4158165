"""Which paths are those of a rollout, and of a model call: no encoding hides one, and an absolute target has one."""

import json

import pytest

from tests.asking import CHAT, ask_body, connected, echo, raw_request, read_answer
from triocept import serve_endpoint

pytestmark = pytest.mark.usefixtures("every_way")


async def status_of(target: str) -> int:
    """The status of a model call to this target, with the key of rollout `a`."""
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, id="a") as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, json.dumps(ask_body()).encode(), path=target))
            return int((await read_answer(stream)).split()[1])


@pytest.mark.parametrize(("target", "status"), [
    (f"/rollout/a{CHAT}", 200),
    (f"/rollout/%61{CHAT}", 200),
    ("/rollout/a/v1%2Fchat/completions", 200),
    (f"/rollout/a{CHAT}%0a", 404),
    (f"{CHAT}%0a", 404),
    (f"/rollout/a%0a{CHAT}", 401),
    (f"/rollout%2fa{CHAT}", 404),
    ("/rollout/a%2Fv1/chat/completions", 401),
    (f"http://else.where/rollout/a{CHAT}", 200),
    (f"HTTPS://else.where:80{CHAT}?x=y", 200),
    ("http://else.where/nowhere", 404),
    (f"ftp://else.where{CHAT}", 404),
])  # fmt: skip
async def test_a_target_is_the_path_that_it_shows(target: str, status: int) -> None:
    assert await status_of(target) == status


async def test_the_slash_in_the_name_of_a_model_may_be_encoded() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, id="a") as rollout:
        async with connected(endpoint.port) as stream:
            head = f"GET /rollout/a/v1/models/org%2Fm HTTP/1.1\r\nHost: a\r\nX-Api-Key: {rollout.api_key}\r\n\r\n"
            await stream.send_all(head.encode())
            assert b'"org/m"' in await read_answer(stream)
