"""Commands that install the programs of the known agents."""

from __future__ import annotations

INSTALL = {
    **{
        program: f"npm install -g {package}"
        for program, package in {
            "claude": "@anthropic-ai/claude-code",
            "cline": "cline",
            "cn": "@continuedev/cli",
            "codex": "@openai/codex",
            "copilot": "@github/copilot",
            "gemini": "@google/gemini-cli",
            "kilo": "@kilocode/cli",
            "kimi": "@moonshot-ai/kimi-code",
            "opencode": "opencode-ai",
            "pi": "@mariozechner/pi-coding-agent",
            "qwen": "@qwen-code/qwen-code",
        }.items()
    },
    "aider": "pip install aider-chat",
    "llm": "pip install llm",
    "mini": "pip install mini-swe-agent",
    "vibe": "pip install mistral-vibe",
}
"""For each program of a known agent: the command that installs it."""
