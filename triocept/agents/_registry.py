"""The functions that prepare the known agents, and a function that finds one of these functions by the agent's name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from .._rollout.rollout import Rollout
from .._util.checks import meant
from ._launch import Directory, Launch
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


class Prepare(Protocol):
    """Type of the functions that prepare the start of a known agent."""

    def __call__(
        self, rollout: Rollout, directory: Directory, prompt: str, *, executable: str = ...
    ) -> Launch:
        """Write the agent's configuration, and return the command and variables that start the agent.

        Args:
            rollout: the rollout that answers the agent's calls.
            directory: directory for the agent's configuration, state and log.
            prompt: the agent's task.
            executable: the program to start; default: the agent's usual command.
        """


_ALL: dict[str, Prepare] = {
    "aider": aider,
    "claude_code": claude_code,
    "cline": cline,
    "codex": codex,
    "continue_cli": continue_cli,
    "copilot": copilot,
    "gemini_cli": gemini_cli,
    "kilo": kilo,
    "kimi_code": kimi_code,
    "llm": llm,
    "mini_swe_agent": mini_swe_agent,
    "mistral_vibe": mistral_vibe,
    "opencode": opencode,
    "pi": pi,
    "qwen_code": qwen_code,
}
AGENTS: Mapping[str, Prepare] = MappingProxyType(_ALL)
"""The functions that prepare the known agents, by the agents' names."""


def agent(name: str) -> Prepare:
    """Return the function that prepares the agent `name`.

    In `name`, `-` and `_` are equal: `claude-code` and `claude_code` name the same agent.

    Raises:
        ValueError: `name` is unknown.
    """
    try:
        return AGENTS[name.replace("-", "_")]
    except KeyError:
        hint = meant(name, AGENTS)
        known = f"; the known agents are {', '.join(AGENTS)}"
        raise ValueError(f"unknown agent {name!r}{known}{hint if hint.endswith('?') else ''}") from None
