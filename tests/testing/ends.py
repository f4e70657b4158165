"""Programs that a test runs in a process of their own, to see how they end."""

import linecache
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
HEAD = """
import asyncio, contextlib, multiprocessing, os, signal, socket, sys, threading, time, warnings
import openai
from tests.testing.applications import asked
from triocept.testing import fake_model, serve

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # fork, in 3.12 and later

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def interrupt_when_main_waits():
    '''Ctrl-C, once the main thread stands still in a wait of ours.'''
    def watch():
        while True:
            frame = sys._current_frames()[threading.main_thread().ident]
            waits = frame.f_code.co_name == "wait" and "threading" in frame.f_code.co_filename
            while frame is not None and "triocept/testing" not in frame.f_code.co_filename:
                frame = frame.f_back
            if waits and frame is not None:
                return interrupt()
            os.sched_yield()
    threading.Thread(target=watch, daemon=True).start()

def accepts(port):
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == 0
"""


def ended(program: str, *, within: float = 90) -> subprocess.CompletedProcess[str]:
    """What became of the program; it has so many seconds."""
    return subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        preexec_fn=_obey_ctrl_c,
    )


def _obey_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_at(step: int) -> Callable[[], int]:
    """Interrupt this program at the line that is so far on, of those of `triocept.testing` in this thread; gives how
    many have run. Not where a `with` begins or ends: Python sees no signal between a lock and its block."""
    seen = 0

    def line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal seen
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not text.startswith("with "):
            seen += 1
            if seen == step:
                signal.raise_signal(signal.SIGINT)
        return line

    def call(frame: FrameType, event: str, arg: object) -> Any:
        return line if "/triocept/testing/" in frame.f_code.co_filename else None

    sys.settrace(call)
    return lambda: seen
