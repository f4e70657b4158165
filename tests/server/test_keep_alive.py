"""`keep_alive=False`: each answer ends its connection, whatever route it came by."""

import json
from collections.abc import Callable

import pytest

from tests.asking import CHAT, ask_body, bearer, connected, echo, raw_request, read_to_end
from triocept import Rollout, serve_endpoint

pytestmark = pytest.mark.usefixtures("every_way")


def call(rollout: Rollout) -> bytes:
    return raw_request(rollout, json.dumps(ask_body()).encode())


def streamed_call(rollout: Rollout) -> bytes:
    return raw_request(rollout, json.dumps(ask_body(stream=True)).encode())


def chunked_call(rollout: Rollout) -> bytes:
    body = json.dumps(ask_body()).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer(rollout)['authorization']}\r\n"
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def list_models(rollout: Rollout) -> bytes:
    key = bearer(rollout)["authorization"]
    return f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\n\r\n".encode()


@pytest.mark.parametrize("make", [call, streamed_call, chunked_call, list_models])
async def test_without_keep_alive_the_answer_names_the_end_of_its_connection(
    make: Callable[[Rollout], bytes],
) -> None:
    async with serve_endpoint(keep_alive=False) as endpoint, endpoint.open_rollout(echo) as rollout:
        for _ in range(2):
            async with connected(endpoint.port) as stream:
                await stream.send_all(make(rollout))
                head, _, body = (await read_to_end(stream)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert b"connection: close" in head.lower()
                assert body


async def test_a_call_behind_one_that_ends_the_connection_is_not_made() -> None:
    async with serve_endpoint(keep_alive=False) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(call(rollout) * 2)
            assert (await read_to_end(stream)).count(b"HTTP/1.1 ") == 1
    assert len(rollout.trace) == 1
