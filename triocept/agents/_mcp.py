"""Make the entries of an agent's configuration for the MCP server that offers the rollout's tools.

If the rollout has no tools, the entries are empty. No file contains the rollout's key: each agent reads the key from
its environment, in which `rollout.run_agent` sets the key. (A key in the settings file of qwen-code would not be safe:
qwen-code rewrites this file, and makes it readable for all users.)

The package `mcp` serves the tools. If the rollout has tools and this package is missing, each function raises
`ModuleNotFoundError`.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

from .._rollout.rollout import Rollout
from ._launch import Directory, made, write_json

NAME = "triocept"
"""Name under which agents know the server. Claude Code, for example, calls a tool `mcp__triocept__NAME`."""


def claude_options(rollout: Rollout, directory: Directory) -> tuple[tuple[str, ...], dict[str, str]]:
    """Write `mcp.json`, and return the options and variables that make Claude Code use this file.

    `MCP_CONNECTION_NONBLOCKING=false` makes Claude Code wait for the server. Without this variable, the first model
    call may lack the tools. (inspect_swe found such calls in 18 of 100 samples, when 250 samples ran at a time.) In
    Claude Code 2.1.331, `alwaysLoad` offers the tools to the model directly. Otherwise, the model must find the tools
    with `ToolSearch`. 2.1.197 has no such option.
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
    """Return the text that adds the MCP server to Codex's `config.toml`. The caller must append the text."""
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
    """Return settings for qwen-code that name the MCP server, and environment variables to set.

    qwen-code 0.15.10 offers the tools only after the model has found the tools with `tool_search`. In 0.24.4,
    `alwaysLoadTools` makes qwen-code offer the tools from the start, and `QWEN_CODE_LEGACY_MCP_BLOCKING` makes the
    first model call wait until the tools are loaded.
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
    """Return True if the rollout has tools.

    Raise ModuleNotFoundError if the package that serves tools is missing. Without this error, the agent would silently
    run without the tools.
    """
    if rollout.tools and find_spec("mcp") is None:
        raise ModuleNotFoundError(
            f"rollout {rollout.id} has tools, which agents get over MCP, but the package 'mcp' is not installed: "
            "run pip install 'triocept[mcp]'",
            name="mcp",
        )
    return bool(rollout.tools)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
