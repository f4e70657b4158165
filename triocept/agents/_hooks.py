"""Write hooks into an agent's configuration, so that the agent lets triocept decide about each tool call.

The part of triocept that makes these decisions is the gate. A rollout needs the gate if the rollout was opened with
`gate=`, or if its handler was made by `approve`. Each agent reads its hooks from a different place, and also runs the
user's own hooks. If the rollout needs no gate, no hook is written. No file contains the rollout's key: the hook reads
the key from the environment, which agents pass to their hooks.
"""

from __future__ import annotations

import json
import shlex
import sys
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from .._rollout.hooks import HOOKS
from .._rollout.rollout import Rollout, take_hook
from ._launch import Directory, made, write_json, write_text

SECONDS = 7 * 24 * 3600
"""Time-out of a hook in seconds. The time-out is long, because a person could have to decide. An agent runs the tool
when the time-out has passed.
"""

_SCRIPT = """import os
import sys

try:
    from urllib.request import ProxyHandler, Request, build_opener

    headers = {"Authorization": "Bearer " + os.environ["TRIOCEPT_API_KEY"], "Content-Type": "application/json"}
    request = Request(sys.argv[1], sys.stdin.buffer.read(), headers)
    with build_opener(ProxyHandler({})).open(request) as response:
        answer = response.read()
except BaseException as exc:  # 2 is the only status that keeps every agent from running the tool
    print("triocept made no decision about this tool call:", exc, file=sys.stderr)
    sys.exit(2)
sys.stdout.buffer.write(answer)
"""
"""Program that runs as the hook of agents whose hooks are commands. The program sends the agent's question to the gate,
and prints the gate's answer."""


_EVENTS = {"gemini_cli": ("BeforeTool", "AfterTool"), "copilot": ("preToolUse", "postToolUse")}


def _events(rollout: Rollout, agent: str) -> tuple[str, ...]:
    """Return the events on which the hook must run, as the agent names them.

    If the rollout needs no gate, the tuple is empty.
    """
    return _EVENTS.get(agent, ("PreToolUse", "PostToolUse"))[: len(take_hook(rollout, HOOKS[agent]))]


def _command(rollout: Rollout, directory: Directory, agent: str) -> str:
    script = write_text(made(directory) / "gate.py", _SCRIPT)
    return shlex.join([sys.executable, "-I", "-S", str(script), rollout.service_url(f"gate/{agent}")])


def claude_hooks(rollout: Rollout, directory: Directory) -> tuple[str, ...]:
    """Write the hooks to `gate.json`, and return the options that make Claude Code read this file.

    The hooks are http hooks, which need no program. `onFailure` (since Claude Code 2.1.295) blocks a tool whose hook
    fails. Older versions of Claude Code run the tool although its hook has failed; the gate then ends the rollout.
    """
    if not (events := _events(rollout, "claude_code")):
        return ()
    hook = {
        "type": "http",
        "url": rollout.service_url("gate/claude_code"),
        "headers": {"Authorization": "Bearer $TRIOCEPT_API_KEY"},
        "allowedEnvVars": ["TRIOCEPT_API_KEY"],
        "timeout": SECONDS,
        "onFailure": "block",
    }
    hooks = {event: [{"matcher": "*", "hooks": [hook]}] for event in events}
    enabled = {
        "disableAllHooks": False,
        "env": HOOKS["claude_code"].variables,
    }  # for the project's settings, too
    return (
        "--settings",
        str(write_json(made(directory) / "gate.json", {**enabled, "hooks": hooks})),
    )


def codex_hooks(rollout: Rollout, directory: Directory, config: Path) -> str:
    """Return text that defines the hooks, to append to Codex's `config.toml`. `config` is the path of this file.

    Codex silently skips a hook that the user has not trusted. Therefore the text marks the hook as trusted, with a hash
    of the hook, under the resolved path of the file.
    """
    if not (events := _events(rollout, "codex")):
        return ""
    hook = {"type": "command", "command": _command(rollout, directory, "codex"), "timeout": SECONDS}
    text = ""
    for event in events:
        key = event.replace("ToolUse", "_tool_use").lower()
        trusted = {"event_name": key, "hooks": [{**hook, "async": False}]}
        digest = sha256(json.dumps(trusted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        fields = "".join(f"{name} = {json.dumps(value)}\n" for name, value in hook.items())
        text += f"\n[[hooks.{event}]]\n[[hooks.{event}.hooks]]\n{fields}"
        text += (
            f'[hooks.state.{json.dumps(f"{config.resolve()}:{key}:0:0")}]\ntrusted_hash = "sha256:{digest}"\n'
        )
    return text


def gemini_hooks(rollout: Rollout, directory: Directory, agent: str = "gemini_cli") -> dict[str, Any]:
    """Return the hooks as a part of the settings of gemini-cli, or of qwen-code, which was derived from gemini-cli.

    The hooks are commands. With http hooks, qwen-code would run the tool if the gate answers with an error. The hooks
    run even if the user's settings disable hooks.
    """
    if not (events := _events(rollout, agent)):
        return {}
    command = _command(rollout, directory, agent)
    name = f"triocept-{token_hex(8)}"  # no settings can disable a hook whose name is unknown
    hook = {"type": "command", "name": name, "command": command, "timeout": SECONDS * 1000}
    enabled = {"disableAllHooks": False} if agent == "qwen_code" else {"hooksConfig": {"enabled": True}}
    return {**enabled, "hooks": {event: [{"matcher": "*", "hooks": [hook]}] for event in events}}


def copilot_hooks(rollout: Rollout, directory: Directory) -> tuple[str, ...]:
    """Write the hooks as a plugin of Copilot, and return the options that make Copilot load this plugin."""
    if not (events := _events(rollout, "copilot")):
        return ()
    hook = {"type": "command", "bash": _command(rollout, directory, "copilot"), "timeoutSec": SECONDS}
    plugin = made(directory) / "plugin"
    write_json(plugin / "plugin.json", {"name": "triocept", "version": "1.0.0", "hooks": "hooks.json"})
    write_json(plugin / "hooks.json", {"version": 1, "hooks": {event: [hook] for event in events}})
    return ("--plugin-dir", str(plugin))


_PLUGIN = """const ask = async (question) => {
  const headers = {authorization: `Bearer ${process.env.TRIOCEPT_API_KEY}`, "content-type": "application/json"}
  const body = JSON.stringify(question)
  const response = await fetch(URL, {method: "POST", headers, body, timeout: false})
  if (!response.ok) throw new Error(`triocept made no decision about this tool call: HTTP status ${response.status}`)
  return response.json()
}

export const Triocept = async () => ({
  "tool.execute.before": async (input, output) => {
    const answer = await ask({tool: input.tool, arguments: output.args, id: input.callID})
    if (answer.decision !== "allow") throw new Error(answer.reason)
    if (!answer.arguments) return
    for (const name of Object.keys(output.args)) delete output.args[name]  // the agent keeps this object
    Object.assign(output.args, answer.arguments)
  },
  "tool.execute.after": async (input, output) => {
    if (!AFTER) return
    const result = output.output ?? null
    const answer = await ask({tool: input.tool, arguments: input.args ?? {}, id: input.callID, result})
    if (answer.result !== undefined) output.output = answer.result
  },
})
"""


def opencode_hooks(rollout: Rollout, directory: Directory) -> dict[str, Any]:
    """Write the hooks as a plugin, `gate.js`, and return the configuration that makes opencode load this plugin."""
    if not (events := take_hook(rollout, HOOKS["opencode"])):
        return {}
    url = json.dumps(rollout.service_url("gate/opencode"))
    head = f"const URL = {url}\nconst AFTER = {json.dumps('after' in events)}\n"
    return {"plugin": [write_text(made(directory) / "gate.js", head + _PLUGIN).as_uri()]}
