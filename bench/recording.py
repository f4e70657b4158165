"""Bodies of real agents, recorded: `python -m bench.recording [AGENT...]`.

Each agent is installed as `nox -s agents` does it, and works in a directory of generated source files. Its model is a
script: it reads a file in each turn, starts one sub-agent (Claude Code), and once reports so many tokens that the agent
compacts its conversation (Claude Code, Codex). A relay between the agent and the endpoint keeps the bytes of each
request. The recording is kept in the cache (`TRIOCEPT_BENCH_DIR`); nothing of an agent is part of this repository.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h11
import msgspec
import trio

import triocept
from tests.real_agents.cases import CASES, SOURCES, Case
from tests.real_agents.installed import agents_folder, installed
from triocept.types import Response, ToolCall, Usage

from .bodies import make_file
from .peers import cache_folder

TURNS = 24
"""Turns of the main conversation, as the script counts them: without those of a compaction and a sub-agent."""
SUB_AGENT_AT, SUB_AGENT_TURNS = 8, 4
COMPACTION_AT = 21
_FULL = {"claude_code": 195_000, "codex": 260_000, "opencode": 195_000}
"""Tokens of a prompt after which an agent compacts its conversation."""
_ENVIRON = {"CLAUDE_CODE_AUTO_COMPACT_WINDOW": "150000"}
_PATIENCE = 600.0
"""Seconds that an agent has for its run."""
_NO_TOOLS = "Do NOT call any tools"
"""In Claude Code's request for a summary."""


@dataclass(frozen=True)
class Call:
    """One recorded model call of an agent."""

    dialect: str
    kind: str
    """Kind of its conversation: `main`, `sub_agent`, `side`."""
    body: bytes


@dataclass
class Tap:
    """A relay to a port, which keeps the bytes that its clients send."""

    port: int
    """The port that it relays to."""
    connections: list[bytearray] = field(default_factory=list)

    async def serve(self, client: trio.SocketStream) -> None:
        """Relay one connection."""
        sent = bytearray()
        self.connections.append(sent)
        async with client, await trio.open_tcp_stream("127.0.0.1", self.port) as server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, server, client, None)
                await self._copy(client, server, sent)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, kept: bytearray | None) -> None:
        try:
            async for data in source:
                if kept is not None:
                    kept += data
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the agent, or the endpoint, has gone

    def bodies(self) -> Iterator[bytes]:
        """Yield the body of each whole POST."""
        for sent in self.connections:
            wire = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
            wire.receive_data(bytes(sent))
            body, method = bytearray(), b""
            while (event := wire.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    body, method = bytearray(), event.method
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    if method == b"POST":
                        yield bytes(body)
                    wire.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    wire.send(h11.EndOfMessage())
                    if wire.our_state is not h11.DONE:
                        break
                    wire.start_next_cycle()


Script = Callable[[triocept.Exchange, int, Path], Response]


def _claude_code(exchange: triocept.Exchange, turn: int, work: Path) -> Response:
    names = {tool.name for tool in exchange.request.tools}
    if exchange.conversation.kind == "main" and turn == SUB_AGENT_AT:
        name = "Agent" if "Agent" in names else "Task"
        task = {
            "description": "read the files",
            "prompt": "Read four files.",
            "subagent_type": "general-purpose",
        }
        return Response.of(ToolCall.of(name, **task))
    path = work / f"part_{turn}.py"
    if turn % 2:
        return Response.of(ToolCall.of("Read", file_path=str(path)))
    return Response.of(ToolCall.of("Bash", command=f"cat {path.name}", description="Print a file"))


def _opencode(exchange: triocept.Exchange, turn: int, work: Path) -> Response:
    path = work / f"part_{turn}.py"
    if turn % 2:
        return Response.of(ToolCall.of("read", filePath=str(path)))
    return Response.of(ToolCall.of("bash", command=f"cat {path.name}", description="Print a file"))


def _codex(exchange: triocept.Exchange, turn: int, work: Path) -> Response:
    return Response.of(ToolCall.of("exec_command", cmd=f"cat part_{turn}.py"))


SCRIPTS: dict[str, Script] = {"claude_code": _claude_code, "opencode": _opencode, "codex": _codex}


class Model:
    """A handler that answers as the script of an agent does, and notes the kinds of the calls."""

    def __init__(self, script: Script, full: int, work: Path) -> None:
        self._script = script
        self._full = full
        self._work = work
        self._turns = 0
        self._steps = 0
        self.calls: list[tuple[str, str, object]] = []
        """Dialect, kind and decoded body of each call."""

    async def __call__(self, exchange: triocept.Exchange) -> None:
        kind = exchange.conversation.kind
        self.calls.append((exchange.dialect, kind, exchange.raw))
        await exchange.respond(self._answer(exchange, kind))

    def _answer(self, exchange: triocept.Exchange, kind: str) -> Response:
        asked = "".join(message.text for message in exchange.request.messages[-2:])
        if kind == "side" or not exchange.request.tools or _NO_TOOLS in asked:
            return Response.of("A summary: files were read, and nothing was changed.")
        if kind == "sub_agent":
            self._steps += 1
            if self._steps > SUB_AGENT_TURNS:
                return Response.of("The four files are read.")
            return self._script(exchange, 100 + self._steps, self._work)
        self._turns += 1
        if self._turns >= TURNS:
            return Response.of("All done.")
        response = self._script(exchange, self._turns, self._work)
        if self._turns == COMPACTION_AT:
            return msgspec.structs.replace(response, usage=Usage(input_tokens=self._full, output_tokens=100))
        return response


def write_files(work: Path) -> None:
    """Write the files that an agent reads: 20 KB each, all different."""
    for number in [*range(TURNS), *range(100, 101 + SUB_AGENT_TURNS)]:
        (work / f"part_{number}.py").write_text(make_file(number), encoding="utf-8")


async def record(agent: str) -> list[Call]:
    """Run an agent, and return its calls in order."""
    case = next(case for case in CASES if case.agent == agent)
    executable = installed(SOURCES[agent], agents_folder())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, trio.fail_after(_PATIENCE):
        return await _record(case, executable, Path(name))


async def _record(case: Case, executable: Path, folder: Path) -> list[Call]:
    work = folder / "work"
    work.mkdir()
    write_files(work)
    model = Model(SCRIPTS[case.agent], _FULL[case.agent], work)
    async with (
        trio.open_nursery() as nursery,
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        tap = Tap(endpoint.port)
        (listener,) = await nursery.start(partial(trio.serve_tcp, tap.serve, 0, host="127.0.0.1"))
        ours, taps = f":{endpoint.port}/", f":{listener.socket.getsockname()[1]}/"
        prompt = "Read all files of this directory, one after the other, and say what they do."
        launch = case.prepare(rollout, folder / "config", prompt, executable=str(executable))
        for path in (folder / "config").rglob("*.*"):
            path.write_text(path.read_text().replace(ours, taps))
        environ = {"HOME": str(folder), **_ENVIRON, **rollout.environ(), **launch.env}
        environ = {key: value.replace(ours, taps) for key, value in environ.items() if value is not None}
        result = await rollout.run_agent(launch.argv, env=environ, cwd=work)
        nursery.cancel_scope.cancel()
    if result.returncode:
        raise RuntimeError(f"{case.agent} ended with {result.returncode}: {result.stderr_text[-2000:]}")
    bodies = [(json.loads(body), body) for body in tap.bodies()]
    return [
        Call(dialect, kind, next(body for document, body in bodies if document == raw))
        for dialect, kind, raw in model.calls
    ]


def _folder(agent: str) -> Path:
    return cache_folder() / "recorded" / f"{agent}-{SOURCES[agent].version}"


def is_recorded(agent: str) -> bool:
    """Return True if the calls of this version of the agent are recorded."""
    return (_folder(agent) / "calls.json").exists()


def recorded(agent: str) -> list[Call]:
    """Return the calls of an agent; record them if this version of the agent has not been recorded yet."""
    folder = _folder(agent)
    index = folder / "calls.json"
    if not is_recorded(agent):
        calls = trio.run(record, agent)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, call in enumerate(calls):
            (folder / f"{number}.json").write_bytes(call.body)
        index.write_text(json.dumps([[call.dialect, call.kind] for call in calls]), encoding="utf-8")
    return [
        Call(dialect, kind, (folder / f"{number}.json").read_bytes())
        for number, (dialect, kind) in enumerate(json.loads(index.read_text(encoding="utf-8")))
    ]


def main() -> None:
    """Record, and say what there is."""
    for agent in sys.argv[1:] or SCRIPTS:
        calls = recorded(agent)
        sizes = [len(call.body) for call in calls]
        print(f"{agent}: {len(calls)} calls, {min(sizes) // 1000} to {max(sizes) // 1000} KB")


if __name__ == "__main__":
    main()
