"""The tools of a rollout as an MCP server in an agent's own configuration; nothing if the rollout has no tools.

No file contains the key: each agent reads it from the environment that it gets anyway. (qwen-code rewrites its
settings, and makes them readable for all users.)

If the rollout has tools, and the package that serves them is missing, each function raises `ModuleNotFoundError`.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

from .._rollout.rollout import Rollout
from ._launch import Directory, made, write_json

NAME = "triocept"
"""Name of the server in the agents; Claude Code's tools are `mcp__triocept__NAME`."""


def claude_options(rollout: Rollout, directory: Directory) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return options and environment for Claude Code. Write `mcp.json`.

    `MCP_CONNECTION_NONBLOCKING=false` makes it wait for the server: otherwise its first call would come without the
    tools (measured by inspect_swe: 18 of 100 samples, 250 at a time). `alwaysLoad` makes 2.1.331 offer the tools to
    the model, which otherwise would have to find them with `ToolSearch`; 2.1.197 has no such option.
    """
    if not _has_tools(rollout):
        return (), {}
    server = {
        "type": "http",
        "url": rollout.service_url("mcp"),
        "headers": _headers("${TRIOCEPT_API_KEY}"),
        "alwaysLoad": True,
    }
    path = write_json(made(directory) / "mcp.json", {"mcpServers": {NAME: server}})
    return ("--mcp-config", str(path)), {"MCP_CONNECTION_NONBLOCKING": "false"}


def codex_config(rollout: Rollout) -> str:
    """Return the addition to Codex's `config.toml`: its key comes from the environment that every agent gets."""
    if not _has_tools(rollout):
        return ""
    url = json.dumps(rollout.service_url("mcp"))
    return f'\n[mcp_servers.{NAME}]\nurl = {url}\nbearer_token_env_var = "TRIOCEPT_API_KEY"\n'


def gemini_servers(rollout: Rollout) -> dict[str, Any]:
    if not _has_tools(rollout):
        return {}
    server = {
        "httpUrl": rollout.service_url("mcp"),
        "headers": _headers("${TRIOCEPT_API_KEY}"),
        "trust": True,
    }
    return {"mcpServers": {NAME: server}}


def qwen_servers(rollout: Rollout) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the additions to the settings and the environment of qwen-code.

    In 0.15.10 the model has to find such tools with `tool_search` before they are offered. `alwaysLoadTools` avoids
    that in 0.24.4, and `QWEN_CODE_LEGACY_MCP_BLOCKING` makes its first call wait for them.
    """
    settings = gemini_servers(rollout)
    for server in settings.get("mcpServers", {}).values():
        server["alwaysLoadTools"] = True
    return settings, {"QWEN_CODE_LEGACY_MCP_BLOCKING": "1"} if settings else {}


def opencode_servers(rollout: Rollout) -> dict[str, Any]:
    if not _has_tools(rollout):
        return {}
    headers = _headers("{env:TRIOCEPT_API_KEY}")
    server = {"type": "remote", "url": rollout.service_url("mcp"), "headers": headers, "enabled": True}
    return {"mcp": {NAME: server}}


def _has_tools(rollout: Rollout) -> bool:
    """Return True if the rollout has tools; raise if they cannot be served: the agent would silently lack them."""
    if rollout.tools and find_spec("mcp") is None:
        raise ModuleNotFoundError(
            f"rollout {rollout.id} has tools, which agents get over MCP, and the package 'mcp' is not installed: "
            "pip install 'triocept[mcp]'",
            name="mcp",
        )
    return bool(rollout.tools)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
