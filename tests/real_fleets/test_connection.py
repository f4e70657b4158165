"""How a program comes to a cluster: one that is not there, one that has other versions, one of its own.

What connects is a program of its own: this one has its cluster already.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import trio

pytest.importorskip("ray", reason="pip install 'triocept[ray]'")

import triocept
from tests.fleets import work as simple
from tests.fleets.cluster import NODE, the_cluster
from triocept.fleets import RayEngine, WorkerLost, open_fleet


@pytest.fixture
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(150):
        yield


pytestmark = pytest.mark.usefixtures("bounded")

PROGRAM = """
import json, sys, time, trio
from triocept.fleets import RayEngine, open_fleet

async def main():
    started = time.monotonic()
    try:
        async with open_fleet(RayEngine(*json.loads(sys.argv[1]), workers=1)):
            print("connected")
    except BaseException as exc:
        print(json.dumps({"type": type(exc).__name__, "text": str(exc), "seconds": time.monotonic() - started}))

trio.run(main)
"""


async def run(program: str, *args: str, python: str = sys.executable, **variables: str) -> str:
    """What a program prints."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | variables
    done = await trio.run_process(
        [python, "-c", program, *args], capture_stdout=True, env=environment, cwd=Path(__file__).parents[2]
    )
    return done.stdout.decode()


async def refused(address: str | None, **variables: str) -> dict[str, Any]:
    """How a program fails that wants to connect."""
    said: dict[str, Any] = json.loads(await run(PROGRAM, json.dumps([address]), **variables))
    return said


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where somebody listens, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def test_a_cluster_that_is_not_there_is_an_error_within_seconds(nobody: str) -> None:
    said = await refused(nobody)
    assert said["type"] == "ConnectionError"
    assert f"no Ray cluster answers at {nobody}" in said["text"]
    assert said["seconds"] < 20


async def test_that_of_the_environment_says_where_it_comes_from(nobody: str) -> None:
    said = await refused(None, RAY_ADDRESS=nobody)
    assert said["type"] == "ConnectionError"
    assert f"no Ray cluster answers at {nobody} (see RAY_ADDRESS)" in said["text"]


async def test_what_never_answers_is_no_cluster(silent: str) -> None:
    said = await refused(silent)
    assert said["type"] == "ConnectionError"
    assert "no answer within 5 s" in said["text"]
    assert said["seconds"] < 20


async def test_an_endpoint_is_no_cluster() -> None:
    async with triocept.serve_endpoint() as endpoint:
        said = await refused(f"127.0.0.1:{endpoint.port}")
    assert said["type"] == "ConnectionError"
    assert "is not a Ray cluster" in said["text"]


async def test_rays_client_is_not_enough() -> None:
    said = await refused("ray://127.0.0.1:10001")
    assert said["type"] == "ValueError"
    assert "pass host:port" in said["text"]


async def test_this_program_has_one_cluster_and_says_so_of_another(nobody: str) -> None:
    address = the_cluster().address
    with pytest.raises(
        RuntimeError,
        match=f"connected to the Ray cluster at {address}, so it cannot use the cluster at {nobody}",
    ):
        async with open_fleet(RayEngine(nobody, workers=1)):
            raise AssertionError
    async with open_fleet(RayEngine(address, workers=1, num_cpus=0.1)) as fleet:
        assert len(fleet.workers) == 1


async def test_a_node_with_another_triocept_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "triocept-9.9.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: triocept\nVersion: 9.9\n")
    cluster = the_cluster()
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        node = cluster.add_node(**NODE, resources={"other": 1})
    try:
        with pytest.raises(
            RuntimeError, match=r"worker 0 .* has Python .*, triocept 9\.9, but this program"
        ) as caught:
            async with open_fleet(RayEngine(workers=1, resources={"other": 1}), worker=simple.open_nothing):
                raise AssertionError
    finally:
        cluster.remove_node(node)
    assert f"triocept {metadata.version('triocept')}" in str(caught.value)


def other_python() -> Path | None:
    """That of the other session of `nox -s fleet`, or of TRIOCEPT_OTHER_PYTHON."""
    mine = "fleet-{}-{}".format(*sys.version_info)
    folders = sorted(Path(sys.prefix).parent.glob("fleet-3-*"))
    found = [folder / "bin" / "python" for folder in folders if folder.name != mine]
    given = os.environ.get("TRIOCEPT_OTHER_PYTHON")
    return Path(given) if given else next((path for path in found if path.exists()), None)


@pytest.mark.skipif(
    other_python() is None, reason="there is no environment of another Python beside this one"
)
async def test_a_cluster_of_another_python_is_refused_and_both_are_named() -> None:
    said = json.loads(await run(PROGRAM, json.dumps([the_cluster().address]), python=str(other_python())))
    assert said["type"] == "RuntimeError"
    assert "Version mismatch" in said["text"]
    assert "Python: {}.{}.".format(*sys.version_info) in said["text"]
    assert said["text"].count("Python: 3.") == 2


async def test_where_there_is_no_room_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    the_cluster()
    monkeypatch.setattr("triocept.fleets.ray_worker.START_TIMEOUT", 1.0)
    with pytest.raises(
        WorkerLost, match=r"not ready within 1 s: [\d.]+ of the 8 CPUs of the cluster are free"
    ):
        async with open_fleet(RayEngine(workers=1, num_cpus=100)):
            raise AssertionError


async def test_a_fleet_that_waits_for_room_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    the_cluster()
    with trio.move_on_after(1) as scope:
        async with open_fleet(RayEngine(workers=1, num_cpus=100)):
            raise AssertionError
    assert scope.cancelled_caught


OWN = """
import os, sys, time, trio
import ray
from tests.fleets import work
from triocept.fleets import RayEngine, open_fleet

async def values(fleet):
    async with fleet.map(work.say_what_is_inherited, [0]) as results:
        return [result.value async for result in results]

async def main():
    async with open_fleet(RayEngine("local", workers=1, num_cpus=0.5)) as fleet:
        raylet = int(open(f"/proc/{fleet.workers[0].split('pid ')[1].split()[0]}/stat").read().split()[3])
        async with open_fleet(RayEngine(workers=1, num_cpus=0.5)) as second:
            (value,) = await values(second)
        (value,) = await values(fleet)  # the first one's, it lives on
        assert value["nice"] == os.nice(0), value
    assert not ray.is_initialized()
    with trio.fail_after(10):
        while os.path.exists(f"/proc/{raylet}"):
            await trio.sleep(0.05)
    print("all is over")

trio.run(main)
"""


async def test_a_cluster_of_the_programs_own_ends_with_its_last_fleet() -> None:
    assert "all is over" in await run(OWN)
