"""An environment of verifiers: rollouts of an agent's process, or of model calls by a client in the worker's own loop.

verifiers imports it by this name, in each worker of its env server. Its model client is the only thing replaced: the
one here answers by itself, at once, where the real one would ask a provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

from verifiers.v1 import interception
from verifiers.v1.clients import Client
from verifiers.v1.configs.harness import HarnessConfig
from verifiers.v1.configs.taskset import TasksetConfig
from verifiers.v1.harness import Harness
from verifiers.v1.runtimes import ProgramResult, Runtime
from verifiers.v1.state import State
from verifiers.v1.task import Task, TaskData
from verifiers.v1.taskset import Taskset
from verifiers.v1.types import Response

from bench.agents import COMMAND
from bench.bodies import make_body
from bench.wire import ResponseReader, make_request

COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Read the file."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 4, "total_tokens": 1004},
}


class FleetTask(Task[TaskData, State]):
    """Nothing to prepare, nothing to score."""


class FleetTaskset(Taskset[FleetTask, TasksetConfig]):
    """The driver sends its tasks itself."""

    def load(self) -> Iterable[FleetTask]:
        return [FleetTask(TaskData(prompt="What now?"))]


class FleetHarnessConfig(HarnessConfig):
    """What a rollout is."""

    work: Literal["agent", "stub"] = "agent"
    calls: int = 4
    """Of a stub."""


class FleetHarness(Harness[FleetHarnessConfig]):
    """Starts the agent, or calls as it would."""

    NEEDS_CONTAINER = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Runtime, endpoint: str, secret: str, *_: Any
    ) -> ProgramResult:
        if self.config.work == "stub":
            await _call(endpoint, secret, self.config.calls)
            return ProgramResult(exit_code=0, stdout="", stderr="")
        result = await runtime.run(COMMAND, {"OPENAI_BASE_URL": endpoint, "OPENAI_API_KEY": secret})
        assert result.stdout == "done\n", result
        return result


async def _call(endpoint: str, key: str, calls: int) -> None:
    url = urlsplit(endpoint)
    request = make_request(f"{url.path}/chat/completions", key, make_body(4096))
    incoming, outgoing = await asyncio.open_connection(url.hostname, url.port)
    answers = ResponseReader()
    for _ in range(calls):
        outgoing.write(request)
        while not answers.feed(await incoming.read(65536)):
            pass
    outgoing.close()
    await outgoing.wait_closed()


class ProgramClient(Client):
    """Answers by itself."""

    async def get_response(self, dialect: Any, *_: Any, **__: Any) -> Response:
        response: Response = dialect.parse_response(dialect.validate_response(COMPLETION))
        response.raw = COMPLETION
        return response


interception.server.resolve_client = lambda config: ProgramClient()
