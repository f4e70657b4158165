"""How long each test took; and what a session leaves: threads, descriptors, processes that were not there before."""

import json
import os
import threading
import time
from pathlib import Path

import pytest


def there():
    threads = [thread.name for thread in threading.enumerate()]
    descriptors = [f"{name} {target(name)}" for name in os.listdir("/proc/self/fd")]
    processes = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {"threads": threads, "descriptors": descriptors, "processes": processes}


def target(name):
    """What a descriptor is; the one that lists the others is gone by now."""
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return "gone"


def pytest_addoption(parser):
    parser.addoption("--say", help="the file that is told")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    session.config.stash[BEFORE] = there()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    start = time.perf_counter()
    try:
        return (yield)
    finally:
        item.config.stash.setdefault(SECONDS, []).append(time.perf_counter() - start)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    before, after = config.stash[BEFORE], there()
    left = {
        kind: sorted(set(after[kind]) - set(before[kind]) - {each for each in after[kind] if "gone" in each})
        for kind in after
    }
    said = {"seconds": config.stash[SECONDS], "left": left}
    Path(config.getoption("--say")).write_text(json.dumps(said))


BEFORE, SECONDS = pytest.StashKey(), pytest.StashKey()
