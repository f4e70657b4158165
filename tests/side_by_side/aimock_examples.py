"""aimock's own example fixtures, read by `read_script`: asked the same, both give the same answer.

Each file in the npm package that has fixtures is given to aimock itself and to a model of triocept's. Both are asked
what each fixture is for; what comes back is compared: status, text, tool calls, vectors.
"""

from __future__ import annotations

import json
import re
import select
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triocept.errors import DialectError
from triocept.handlers import ScriptWarning, read_embeddings, read_script
from triocept.testing import fake_model
from triocept.types import RolloutOptions

from .environments import node_modules
from .running import Failed

START, ANSWER = 60, 30
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """What became of a file."""

    name: str
    """From the package's folder of fixtures."""
    asked: int
    """How often both were asked, and said the same."""
    refused: str | None = None
    """Why it is no script; None: it is one."""


def try_examples() -> Iterator[Example]:
    """Try each file that has fixtures; raise Failed if the two have said different things."""
    folder = node_modules() / "@copilotkit" / "aimock" / "fixtures"
    for path in sorted(folder.rglob("*.json")):
        fixtures = json.loads(path.read_text()).get("fixtures")
        if fixtures:
            yield _try(path, str(path.relative_to(folder)), fixtures)


def _try(path: Path, name: str, fixtures: list[Any]) -> Example:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScriptWarning)  # of embeddings, which are read apart
            script = read_script(path)
    except DialectError as exc:
        return Example(name=name, asked=0, refused=str(exc).replace(f"{path.parent}/", ""))
    embeds = any("embedding" in fixture["response"] for fixture in fixtures)
    options: RolloutOptions = {"embed": read_embeddings(path)} if embeds else {}
    with _aimock(path) as theirs, fake_model(*script, environ=False, must_be_used=False, **options) as model:
        for fixture in fixtures:
            where, body = _question(fixture["match"])
            expected = _said(f"{theirs}/v1/{where}", "sk-test", body)
            said = _said(f"{model.base_url('openai_chat')}/{where}", model.api_key, body)
            if said != expected:
                raise Failed(f"{name}: asked {body}, aimock says {expected}, triocept {said}")
    return Example(name=name, asked=len(fixtures))


def _question(match: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A request that a fixture is for."""
    if "inputText" in match:
        return "embeddings", {"model": "m", "input": match["inputText"], "encoding_format": "float"}
    messages: list[dict[str, Any]] = [{"role": "user", "content": match.get("userMessage", "go on")}]
    if (number := match.get("toolCallId")) is not None:
        call = {"id": number, "type": "function", "function": {"name": "a_tool", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": number, "content": "done"})
    tools = [{"type": "function", "function": {"name": match["toolName"]}}] if "toolName" in match else []
    body = {"model": match.get("model", "m"), "messages": messages}
    return "chat/completions", body | ({"tools": tools} if tools else {})


def _said(url: str, key: str, body: dict[str, Any]) -> Any:
    """What is told of an answer: not its id, its date, its usage."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as exc:
        return exc.code
    if "data" in answer:
        return [[round(number, 6) for number in each["embedding"]] for each in answer["data"]]  # of 32 bits
    message = answer["choices"][0]["message"]
    calls = [each["function"] for each in message.get("tool_calls") or []]
    return message["content"], [(each["name"], json.loads(each["arguments"])) for each in calls]


@contextmanager
def _aimock(path: Path) -> Iterator[str]:
    """aimock itself with a file of fixtures; its URL."""
    node = shutil.which("node")
    assert node is not None
    program = node_modules() / "@copilotkit" / "aimock" / "dist" / "cli.js"
    server = subprocess.Popen(
        [node, str(program), "-p", "0", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield _url(server)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _url(server: subprocess.Popen[bytes]) -> str:
    printed, end = b"", time.monotonic() + START
    while (left := end - time.monotonic()) > 0:
        if not select.select([server.stdout], [], [], left)[0] or not (more := server.stdout.read1()):  # type: ignore[attr-defined]
            break
        printed += more
        if found := re.search(rb"listening on (http://[\d.:]+)", printed):
            return found[1].decode()
    raise Failed(f"aimock does not listen: {printed.decode(errors='replace')}")
