"""The five tools, what each needs, and where its tests are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUITES = Path(__file__).with_name("suites")
SESSIONS = Path(__file__).with_name("sessions")
APPLICATION = (
    "openai==3.57.0", "anthropic==2.14.0", "langchain-openai==1.7.4", "pydantic-ai-slim[openai]==2.68.0",
    "pytest==9.2.0", "pytest-asyncio==1.5.0",
)  # fmt: skip
PACKAGES = ("@copilotkit/aimock@1.43.0", "openai@7.55.0")
"""From npm: what aimock-pytest starts, whose own default was not there; and what the test in JavaScript asks with."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A way to test the application."""

    name: str
    """As its users call it."""
    file: Path
    """Its ten tests."""
    plugin: tuple[str, ...]
    """What is installed beside the application's packages; empty: the wheel of this checkout."""
    beside: tuple[Path, ...] = ()
    """Code that its tests need, and no test is."""
    recorded: Path | None = None
    """What its tests read."""

    @property
    def key(self) -> str:
        """The name of its file, and of its environment."""
        return self.file.stem.removeprefix("with_")

    @property
    def requirements(self) -> tuple[str, ...]:
        """What its environment has."""
        return (*APPLICATION, *self.plugin)


WIRE = SUITES / "wire.py"
TRIOCEPT = Tool(name="triocept", file=SUITES / "with_triocept.py", plugin=())
TOOLS = (
    TRIOCEPT,
    Tool(name="pytest-httpx2", file=SUITES / "with_httpx2.py",
     plugin=("pytest-httpx2==1.0.0", "respx==0.23.1"), beside=(WIRE,)),
    Tool(name="aimock-pytest", file=SUITES / "with_aimock.py", plugin=("aimock-pytest==0.7.0",)),
    Tool(name="pytest-recording", file=SUITES / "with_recording.py",
     plugin=("pytest-recording==0.14.1", "vcrpy==9.4.2"), recorded=SUITES / "cassettes" / "with_recording"),
    Tool(name="pytest-httpserver", file=SUITES / "with_httpserver.py", plugin=("pytest-httpserver==1.2.0",),
     beside=(WIRE,)),
)  # fmt: skip
OVERHEAD = ("openai==3.57.0", "pytest==9.2.0", "pytest-httpserver==1.2.0", "aimock-pytest==0.7.0")
"""What the environment of the 200 tests has, beside the wheel."""
BOTH = (*APPLICATION, *TOOLS[1].plugin, *TOOLS[3].plugin)
"""What the tests have that mock other HTTP beside triocept, beside the wheel."""
