"""`triocept demo`: runs a small agent in a separate process. A scripted model answers the agent's calls."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .._canonical.content import ToolCall
from .._canonical.request import Request
from ..handlers import Reply, ScriptedModel
from .agent_plan import AgentPlan
from .run import Run
from .script import Answers

AGENT = Path(__file__).with_name("demo_agent.py")


def replies() -> list[Reply]:
    def conclude(request: Request) -> str:
        return f"Done. The file says: {request.tool_results[-1].text.strip()}"

    return [
        ToolCall.of("write_file", path="hello.txt", text="Hello from a model that is a trio program.\n"),
        0.3,
        ToolCall.of("read_file", path="hello.txt"),
        0.3,
        conclude,
    ]


async def run_demo(record: Path | None) -> int:
    with tempfile.TemporaryDirectory(prefix="triocept-demo-") as folder:
        command = (sys.executable, str(AGENT), "Write a greeting to hello.txt, then tell me what it says.")
        handler = Answers(ScriptedModel(replies()))
        return await Run(AgentPlan(command), handler=handler, record=record, cwd=Path(folder)).run()
