"""Functions that prepare known agents, such as Codex, to run with a rollout as their model.

Each agent has a small module with a function `NAME(rollout, directory, prompt, …) -> Launch`; opencode and kilo, which
was derived from opencode, share a module. The function writes the agent's configuration files into `directory`, and
returns the command and the environment. `Prepare` describes the arguments that all functions have. Some functions also
have an argument `dialect`: the dialect in which the agent calls the rollout. Each module names the versions of the
agent with which the module was tested. If a new version of an agent behaves differently, the function for this agent
may have to be changed. An example::

    launch = agents.codex(rollout, directory, "fix the bug")
    result = await rollout.run_agent(launch.argv, env=launch.env)

Other programs are run without these functions. Most other programs find the rollout through the environment variables
that `rollout.run_agent` sets for every agent.
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
