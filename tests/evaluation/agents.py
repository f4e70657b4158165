"""Agents of these tests: functions in the worker, and a program of one call."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from triocept import AgentFailed, Rollout, ScriptedModel
from triocept.evaluation import Task

PROGRAM = """
import json, os, sys, time, urllib.request
request = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    json.dumps({"model": "m", "messages": [{"role": "user", "content": sys.argv[1]}]}).encode(),
    {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
)
text = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
open("out.txt", "w").write(text)
print(text)
if "fail" in sys.argv[1]:
    sys.exit("it failed")
if "wait" in sys.argv[1]:
    time.sleep(100)
"""
COMMAND = (sys.executable, "-S", "-c", PROGRAM, "{prompt}")


def says(*replies: str):
    """A model that gives these replies to each sample."""
    return lambda: ScriptedModel(list(replies))


async def ask(rollout: Rollout, task: Task, workdir: Path) -> str:
    """Prompt the model once, write its answer into a file, and return it."""
    text = (await rollout.ask(task.prompt)).text
    (workdir / "out.txt").write_text(text)
    return text


async def behave(rollout: Rollout, task: Task, workdir: Path) -> str | None:
    """Do what the task's id names, after a call of the model."""
    if task.id == "silent":
        await trio.lowlevel.checkpoint()
        return "I made no call"
    if task.id == "not there":
        await rollout.run_agent(["/no/such/agent"])
    text = await ask(rollout, task, workdir)
    if task.id == "raises":
        raise KeyError("a bug in the agent")
    if task.id == "returns 3":
        raise AgentFailed("agent returned 3", argv=("agent",), returncode=3)
    if task.id == "slow":
        await trio.sleep_forever()
    if task.id == "greedy":
        await rollout.ask("more")
    return text


async def write_key(rollout: Rollout, task: Task, workdir: Path) -> None:
    """Prompt the model, and write the rollout's key into a file."""
    await rollout.ask(task.prompt)
    (workdir / "key.txt").write_text(rollout.api_key)


def raise_key(trace: object, task: Task, workdir: Path) -> float:
    """A scorer whose exception contains the key."""
    raise ValueError((workdir / "key.txt").read_text())
