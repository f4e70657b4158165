"""The plugin in projects of other people's, and what it costs those that have no use for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real_projects.cost import cpu_of_runs, seconds_within
from tests.real_projects.environments import Environment
from tests.real_projects.project_run import check_outcomes, run_project

RUNS = [
    ("pytest 8", "sync_sdk"),
    ("pytest 9", "sync_sdk"),
    ("pytest 8", "unittest_sdk"),
    ("pytest 9", "unittest_sdk"),
    ("xdist", "sync_sdk", "-n", "2"),
    ("asyncio", "asyncio_sdk"),
    ("asyncio", "asyncio_sdk", "-o", "asyncio_mode=auto"),
    ("asyncio", "asyncio_auto"),
    ("anyio", "anyio_sdk"),
    ("trio", "trio_sdk"),
    ("timeout", "timeouts"),
    ("reruns", "reruns"),
    ("pytest 8", "recorded", "--triocept-record=once"),
    ("xdist", "recorded", "--triocept-record=once", "-n", "2"),
    ("pytest 8", "foreign"),
    ("pytest 9", "foreign"),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join(run))
def test_each_test_of_a_project_ends_as_it_says(
    run: tuple[str, ...], environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    name, project, *arguments = run
    done = run_project(environment(name), project, tmp_path, *arguments)
    check_outcomes(done, project)
    assert done.returncode == (1 if done.failures else 0)


def test_a_failure_shows_the_calls_and_a_success_does_not(
    environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    done = run_project(environment("pytest 9"), "sync_sdk", tmp_path, "-rN")
    sections = re.findall(r"^-+ triocept -+\n(.*?)(?=^[-_=]{5,})", done.output, re.MULTILINE | re.DOTALL)
    assert len(sections) == len(done.failures)
    assert "user: 'It crashes.'" not in done.output  # only of tests that pass
    assert any("system: 'Name one team.'" in text for text in sections)


def test_two_hundred_tests_leave_no_thread_and_no_descriptor(
    environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    done = run_project(environment("pytest 9"), "many", tmp_path, "-s")
    assert "200 passed" in done.output, done.output
    found = re.search(r"threads and descriptors: (.*)", done.output)
    assert found is not None, done.output
    before, first, last, after = ((int(a), int(b)) for a, b in re.findall(r"\((\d+), (\d+)\)", found[1]))
    assert last <= first, found[1]
    assert after <= before, found[1]


def test_a_project_that_does_not_use_it_pays_nothing_for_the_plugin_and_little_for_its_presence(
    environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    """pytest reads the list of the files of each distribution that brings a plugin, and looks whether they are there:
    some 25 us a file on Python 3.12 and newer, whatever the plugin does. That is all."""
    (tmp_path / "profiled").mkdir()
    installed = environment("pytest 9")
    run = [installed.python, "-m", "pytest"]
    other = installed.without_triocept(tmp_path / "without")
    own = seconds_within("triocept_pytest.py", run, "foreign", tmp_path / "profiled")
    cpu = cpu_of_runs({"with triocept": run, "without": [other, "-m", "pytest"]}, "foreign", tmp_path)
    told = ", ".join(f"{each:.3f} s {name}" for name, each in cpu.items())
    print(f"\nCPU of a foreign project's run: {told}; within the plugin {own * 1000:.2f} ms")
    assert 0 < own < 0.01
    assert cpu["with triocept"] < cpu["without"] + 0.1
