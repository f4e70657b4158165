"""A request has one key: of two in headers of one name, a proxy may have looked at another than the endpoint."""

import json

import pytest

from tests.asking import CHAT, ask_body, connected, echo, read_answer
from triocept import Rollout, serve_endpoint

pytestmark = pytest.mark.usefixtures("every_way")

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)
BODY = json.dumps(ask_body())
REQUESTS = {
    "a model call": f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n%s\r\n{BODY}",
    "another route": "GET /v1/models HTTP/1.1\r\nHost: a\r\n%s\r\n",
    "MCP": "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n%s\r\n",
    "a websocket": f"GET /v1/responses HTTP/1.1\r\nHost: a\r\n{UPGRADE}%s\r\n",
}


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("name", ["Authorization: Bearer", "X-Api-Key:"])
async def test_two_keys_in_headers_of_one_name_are_refused(request_of: str, name: str) -> None:
    def lines(*rollouts: Rollout) -> str:
        return "".join(f"{name} {rollout.api_key}\r\n" for rollout in rollouts)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            for given in (lines(a, b), lines(a, a)):
                async with connected(endpoint.port) as stream:
                    await stream.send_all((REQUESTS[request_of] % given).encode())
                    answer = await read_answer(stream)
                    assert answer.startswith(b"HTTP/1.1 400")
                    assert b"send it once" in answer
    assert len(a.trace) == len(b.trace) == 0


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize(
    ("first", "second"), [("Authorization: Bearer", "X-Api-Key:"), ("X-Api-Key:", "Api-Key:")]
)
async def test_the_keys_of_two_rollouts_are_refused_and_a_strangers_second_key_is_ignored(
    request_of: str, first: str, second: str
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            for key in (a.api_key, b.api_key, "sk-of-a-provider"):
                async with connected(endpoint.port) as stream:
                    given = f"{first} {a.api_key}\r\n{second} {key}\r\n"
                    await stream.send_all((REQUESTS[request_of] % given).encode())
                    answer = await stream.receive_some()
                    assert answer.startswith(b"HTTP/1.1 401") == (key == b.api_key)
                    if key == b.api_key:
                        names = [line.partition(":")[0].lower() for line in (first, second)]
                        said = "the headers '{}' and '{}' contain keys of two rollouts".format(*names)
                        assert said.encode() in answer
    assert len(b.trace) == 0
