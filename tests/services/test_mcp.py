"""The tools of the program over MCP, called by the official client: in today's protocol, and the handshake's."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import msgspec
import pytest
import trio

from tests.asking import bearer
from triocept import Rollout, serve_endpoint
from triocept.types import HostTool

mcp = pytest.importorskip("mcp")
streamable_http = pytest.importorskip("mcp.client.streamable_http")

pytestmark = [
    pytest.mark.usefixtures("every_way"),
    # The client leaves the bodies that it has read enough of to the garbage collector (mcp 2.3.0 with httpx2 2.16).
    pytest.mark.filterwarnings(
        r"ignore:Exception ignored.*async_generator object (Response|EventSource|PoolByteStream)\."
        ":pytest.PytestUnraisableExceptionWarning"
    ),
]


class Place(msgspec.Struct):
    name: str
    people: int = 0


class Catalogue:
    """Tools of every kind of result and failure."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.cancelled = trio.Event()

    async def add(self, a: int, b: Annotated[int, msgspec.Meta(description="the other", ge=0)] = 1) -> int:
        """Add two numbers."""
        await trio.lowlevel.checkpoint()
        return a + b

    def greet(self, place: Place, rollout: Rollout) -> str:
        """Say where it is."""
        return f"{place.name} has {place.people} people ({rollout.id})"

    async def look_up(self, names: list[str]) -> list[Place]:
        return [Place(name, len(name)) for name in names]

    async def break_down(self) -> None:
        raise ValueError("the disk is full")

    async def list_files(self) -> list[str]:
        return ["a\udcff", "\ud83d\ude00"]

    async def name_a_file(self) -> str:
        return "a\udcff"

    async def return_what_is_not_json(self) -> object:
        return object()

    async def hang(self) -> None:
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    @property
    def all(self) -> list[Any]:
        return [
            self.add,
            self.greet,
            self.look_up,
            self.break_down,
            self.list_files,
            self.name_a_file,
            self.return_what_is_not_json,
            self.hang,
            HostTool.of(self.hang, name="hang_a_moment", timeout=0.05),
        ]


@asynccontextmanager
async def connected(rollout: Rollout, mode: str = "auto") -> AsyncIterator[Any]:
    """The official client, at a rollout's tools."""
    timeout = httpx2.Timeout(None)
    async with httpx2.AsyncClient(headers=bearer(rollout), timeout=timeout) as http:
        transport = streamable_http.streamable_http_client(rollout.service_url("mcp"), http_client=http)
        async with mcp.Client(transport, mode=mode) as client:
            yield client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_lists_and_calls_every_tool(mode: str) -> None:
    catalogue = Catalogue()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(id="r", tools=catalogue.all) as rollout:
        async with connected(rollout, mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(tools) == [made.tool.name for made in rollout.tools]
            assert tools["add"].description == "Add two numbers."
            assert tools["add"].input_schema == {
                "type": "object",
                "properties": {
                    "a": {"type": "integer"},
                    "b": {"type": "integer", "minimum": 0, "description": "the other", "default": 1},
                },
                "required": ["a"],
                "additionalProperties": False,
            }
            assert await said(client, "add", a=1, b=2) == (False, "3")
            assert await said(client, "add", a=1) == (False, "2")
            assert await said(client, "greet", place={"name": "Rome", "people": 3}) == (
                False,
                "Rome has 3 people (r)",
            )
            assert await said(client, "look_up", names=["ab"]) == (False, '[{"name":"ab","people":2}]')
            assert await said(client, "break_down") == (True, "ValueError: the disk is full")
            assert await said(client, "list_files") == (False, '["a\ufffd","\U0001f600"]')
            assert await said(client, "name_a_file") == (False, "a\ufffd")
            is_error, text = await said(client, "return_what_is_not_json")
            assert is_error
            assert text.startswith("the result of the tool return_what_is_not_json is not JSON")
            assert await said(client, "hang_a_moment") == (
                True,
                "the tool hang_a_moment took longer than its timeout of 0.05 s",
            )
            is_error, text = await said(client, "add", a="1")
            assert is_error
            assert (
                text
                == "the arguments do not match the parameters of the tool add: Expected `int`, got `str` - at `$.a`"
            )
            with pytest.raises(mcp.MCPError, match="no tool 'other'"):
                await client.call_tool("other", {})
    calls = rollout.trace.services
    assert [(call.name, call.outcome) for call in calls] == [
        ("add", "answered"), ("add", "answered"), ("greet", "answered"), ("look_up", "answered"),
        ("break_down", "failed"), ("list_files", "answered"), ("name_a_file", "answered"),
        ("return_what_is_not_json", "failed"), ("hang_a_moment", "failed"), ("add", "refused"),
    ]  # fmt: skip
    assert calls[0].arguments == {"a": 1, "b": 2}
    assert calls[0].result == 3


async def said(client: Any, tool: str, **arguments: Any) -> tuple[bool, str]:
    """Whether it failed, and its text."""
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    return result.is_error, content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_tool_is_cancelled_when_its_caller_hangs_up(mode: str) -> None:
    catalogue = Catalogue()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(tools=catalogue.all) as rollout:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                async with connected(rollout, mode) as client:
                    await client.call_tool("hang", {})

            nursery.start_soon(call)
            await catalogue.begun.wait()
            nursery.cancel_scope.cancel()
        await catalogue.cancelled.wait()
        async with connected(rollout, mode) as client:  # nothing else is disturbed
            assert await said(client, "add", a=1) == (False, "2")
    assert [call.outcome for call in rollout.trace.services] == ["abandoned", "answered"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_tool_is_cancelled_because_its_rollout_ended(mode: str) -> None:
    catalogue = Catalogue()
    answers: list[tuple[bool, str]] = []
    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout(id="r", tools=catalogue.all) as rollout:

            async def call() -> None:
                async with connected(rollout, mode) as client:
                    answers.append(await said(client, "hang"))

            nursery.start_soon(call)
            await catalogue.begun.wait()
        assert catalogue.cancelled.is_set()
        assert rollout.trace.sealed
        assert [call.outcome for call in rollout.trace.services] == ["abandoned"]
    assert answers == [(True, "rollout r is closed")]


async def test_mcp_wants_the_rollouts_key() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(tools=[Catalogue().add]) as rollout:
        async with httpx2.AsyncClient() as http:
            for headers in ({}, {"authorization": "Bearer wrong"}):
                response = await http.post(rollout.service_url("mcp"), json={}, headers=headers)
                assert response.status_code == 401
            for method in ("GET", "DELETE"):
                response = await http.request(method, rollout.service_url("mcp"), headers=bearer(rollout))
                assert response.status_code == 405
                assert response.headers["allow"] == "POST"


async def test_many_programs_in_one_process_serve_mcp_one_after_the_other() -> None:
    def program() -> None:
        async def main() -> None:
            with trio.fail_after(30):
                async with (
                    serve_endpoint() as endpoint,
                    endpoint.open_rollout(tools=[Catalogue().add]) as rollout,
                ):
                    async with connected(rollout, "legacy") as client:
                        assert await said(client, "add", a=1) == (False, "2")

        trio.run(main)

    for _ in range(2):
        await trio.to_thread.run_sync(program)


async def test_tools_that_cannot_be_served_are_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Agents get 501, go on without their tools, and say nothing."""
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(tools=[Catalogue().add]) as rollout:
        async with httpx2.AsyncClient() as http:
            for _ in range(2):
                response = await http.post(rollout.service_url("mcp"), json={}, headers=bearer(rollout))
                assert response.status_code == 501
    (told,) = [record.getMessage() for record in caplog.records if "triocept[mcp]" in record.getMessage()]
    assert rollout.id in told
