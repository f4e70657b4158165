"""Known agents: functions that start each agent with a rollout as its model.

Each agent has one small file (one for two if one was derived from the other) with a function `NAME(rollout,
directory, prompt, …) -> Launch`. It writes the agent's configuration files into `directory`, and returns the command
and the environment; `Prepare` describes the common arguments, and `dialect` is the agent's dialect. The files are
measured with real versions of the agents; agents change, and the functions change with them::

    launch = agents.codex(rollout, directory, "fix the bug")
    result = await rollout.run_agent(launch.argv, env=launch.env)

Any other program is run without these functions: the environment that every agent gets points most of them to the
rollout.
"""

from typing import TYPE_CHECKING

from .._moved import hints_of
from ._launch import Launch
from ._registry import AGENTS, Prepare, agent
from .aider import aider
from .claude_code import claude_code
from .cline import cline
from .codex import codex
from .continue_cli import continue_cli
from .copilot import copilot
from .gemini_cli import gemini_cli
from .kimi import kimi_code
from .llm import llm
from .mini_swe_agent import mini_swe_agent
from .mistral_vibe import mistral_vibe
from .opencode import kilo, opencode
from .pi import pi
from .qwen_code import qwen_code

if not TYPE_CHECKING:
    __getattr__ = hints_of(__name__)

__all__ = [
    "AGENTS",
    "Launch",
    "Prepare",
    "agent",
    "aider",
    "claude_code",
    "cline",
    "codex",
    "continue_cli",
    "copilot",
    "gemini_cli",
    "kilo",
    "kimi_code",
    "llm",
    "mini_swe_agent",
    "mistral_vibe",
    "opencode",
    "pi",
    "qwen_code",
]
