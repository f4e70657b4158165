"""An agent of a few lines, and the program under test, as a shell with no habits of its own would start it."""

from __future__ import annotations

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

PATIENCE = 30
"""Seconds for whatever takes one, on a machine that has other things to do."""

STARTER = """
import os, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(signal.Signals[name], signal.SIG_IGN if name in sys.argv[1] else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "triocept", *sys.argv[2:]])
"""
