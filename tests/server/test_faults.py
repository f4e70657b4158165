"""A fault of the program, or of triocept, in the handling of one call: its agent gets a 500 in its own dialect, and
whoever holds the rollout hears of it. The endpoint and its other rollouts go on.
"""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import STREAM_PATHS, ask, bearer, document, echo
from tests.server.test_websocket import Frame, dialled
from triocept import Endpoint, Exchange, Limits, Rollout, serve_endpoint
from triocept._rollout.budget import Budget
from triocept._server import websocket
from triocept._server.delivery import _Streamed
from triocept.dialects import DIALECTS

pytestmark = pytest.mark.usefixtures("every_way")


class Fault(Exception):
    """What nobody has foreseen."""


def fail(*args: object, **options: object) -> Any:
    raise Fault("gears")


PLACES: dict[str, Callable[[pytest.MonkeyPatch, str], None]] = {
    "parsing": lambda patch, name: patch.setitem(vars(DIALECTS[name]), "parse_request", fail),
    "retry_key": lambda patch, name: patch.setattr("triocept._rollout.rollout_state.retry_key", fail),
    "admission": lambda patch, name: patch.setattr(Budget, "admit", fail),
    "rendering": lambda patch, name: patch.setitem(vars(DIALECTS[name]), "render_response", fail),
    "rendering a stream": lambda patch, name: patch.setitem(vars(DIALECTS[name]), "stream_renderer", fail),
}
SAID = "the program that answers this call failed (Fault)"


async def both(
    endpoint: Endpoint, handler: Any, agent: Callable[[Rollout], Any]
) -> tuple[list[Any], list[BaseException]]:
    """What an agent gets that is not in the body of its rollout, and what that body's owner hears."""
    got: list[Any] = []
    heard: list[BaseException] = []
    async with trio.open_nursery() as nursery:

        async def call(rollout: Rollout, over: trio.Event) -> None:
            got.append(await agent(rollout))
            over.set()

        try:
            async with endpoint.open_rollout(handler, limits=Limits(turns=9)) as rollout:
                nursery.start_soon(call, rollout, over := trio.Event())
                await over.wait()
        except Exception as exc:
            heard.append(exc)
    return got, heard


@pytest.mark.parametrize("name", list(STREAM_PATHS))
@pytest.mark.parametrize("place", list(PLACES))
async def test_a_fault_in_one_call_is_a_500_for_its_agent_and_an_error_for_its_owner(
    place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = place == "rendering a stream"

    async def agent(rollout: Rollout) -> httpx2.Response:
        root = rollout.service_url("mcp").removesuffix("/mcp")
        path = STREAM_PATHS[name] if stream else STREAM_PATHS[name].replace("streamG", "g").partition("?")[0]
        async with httpx2.AsyncClient(timeout=None) as client:
            asked = document(name, stream=stream)
            return await client.post(root + path, json=asked, headers=bearer(rollout))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as other:
        with monkeypatch.context() as patch:
            PLACES[place](patch, name)
            (reply,), heard = await both(endpoint, echo, agent)
        error = reply.json()["error"]
        assert (reply.status_code, error if name == "ollama" else error["message"]) == (500, SAID)
        assert [str(error) for error in heard] == ["gears"]
        assert (await ask(other)).status_code == 200


async def test_a_fault_in_the_middle_of_a_stream_breaks_it_and_reaches_the_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = _Streamed.write

    def failing(self: _Streamed, entry: Any) -> bool:
        return fail() if "two" in repr(entry) else write(self, entry)

    async def in_pieces(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("one")
            await stream.send("two")

    async def agent(rollout: Rollout) -> str:
        got = b""
        with pytest.raises(httpx2.RemoteProtocolError):
            async with httpx2.AsyncClient(timeout=None) as client:
                url = rollout.base_url("openai_chat") + "/chat/completions"
                asked = document("openai_chat", stream=True)
                async with client.stream("POST", url, json=asked, headers=bearer(rollout)) as reply:
                    async for piece in reply.aiter_bytes():
                        got += piece
        return got.decode()

    monkeypatch.setattr(_Streamed, "write", failing)
    async with serve_endpoint() as endpoint:
        (got,), heard = await both(endpoint, in_pieces, agent)
    assert '"one"' in got
    assert SAID in got
    assert [str(error) for error in heard] == ["gears"]


@pytest.mark.parametrize("place", ["parsing", "retry_key", "rendering"])
async def test_a_fault_on_a_websocket_is_an_error_frame(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def agent(rollout: Rollout) -> Frame:
        async with dialled(rollout) as socket:
            return (await socket.ask())[-1]

    if place == "rendering":
        monkeypatch.setattr(websocket.Documents, "render", fail)
    else:
        PLACES[place](monkeypatch, "openai_responses")
    async with serve_endpoint() as endpoint:
        (frame,), heard = await both(endpoint, echo, agent)
    assert (frame["status"], frame["error"]["message"]) == (500, SAID)
    assert [str(error) for error in heard] == ["gears"]
