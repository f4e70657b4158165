"""An agent of a few lines, and the program under test, as a shell with no habits of its own would start it."""

import os
import pty
import subprocess
import sys

AGENT = """
import json, os, sys, urllib.request
for text in sys.argv[2:]:
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode(),
        headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        print("said:", json.load(response)["choices"][0]["message"]["content"], flush=True)
sys.exit(int(sys.argv[1]))
"""

PATIENCE = 150
"""Seconds for whatever takes one, on a machine that has other things to do."""

STARTER = """
import os, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(signal.Signals[name], signal.SIG_IGN if name in sys.argv[1] else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "triocept", *sys.argv[2:]])
"""

PATIENT_STARTER = """
import signal, sys
from triocept._cli import main
from triocept._process.process import open_process
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(signal.Signals[name], signal.SIG_IGN if name in sys.argv[1] else signal.SIG_DFL)
open_process.__wrapped__.__kwdefaults__["terminate_grace"] = 60
del sys.argv[1]
main()
"""
"""The same, but the agent gets a minute from SIGTERM to SIGKILL: on a busy machine, five seconds can be too short."""


def on_a_terminal(*arguments: str, columns: int, kind: str, output: bool = False, **environment: str) -> str:
    """Return what `triocept` prints on a terminal (`kind` is its TERM) of so many columns: its errors or its output."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "triocept", *arguments]
    env = {**os.environ, "TERM": kind, "COLUMNS": str(columns), "LINES": "24", **environment}
    streams = {"stdout": theirs if output else subprocess.DEVNULL, "stderr": theirs}
    with subprocess.Popen(command, env=env, **streams) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # EIO: the other side is closed
            pass
        os.close(ours)
        process.wait(PATIENCE)
    return shown.decode()
