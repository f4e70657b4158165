"""Fleets of workers, which run many rollouts on all cores of one machine or on many machines.

A fleet calls your function once for each task. Each call occupies one slot of a worker, so the number of slots limits
how many calls run at the same time::

    async def solve(worker, task, *, attempt):              # importable; runs in a worker, beside others
        async with worker.open_rollout(answer) as rollout:
            result = await rollout.run_agent(["claude", "-p", task["prompt"]])
        return result.returncode

    async with open_fleet(Processes(4, slots_per_worker=64)) as fleet:
        async with fleet.map(solve, tasks) as results:
            async for result in results:
                print(result.task, result.outcome, result.traces)

* `fleet`: `open_fleet`, and `Fleet`. `mapping`: a map, which is one call of `Fleet.map`: it calls one function for many
  tasks. `functions`, `tasks`: the arguments of a map. `slots`: assigns each call to a worker.
* `outcomes`: the result of a task. `groups`: several samples of one task.
* `events`: events that a program can read while the fleet runs. `progress`: the progress display. `tally`: counts of a
  map's outcomes, its tasks and tokens per second, and its time left.
* `engine`: the base classes of engines (which start workers) and of workers. `in_process`: engine whose only worker
  runs in the program's own trio loop. `processes`: engine whose workers are subprocesses; `worker_process` and `frames`
  belong to it.
* `ray_engine`: engine whose workers are actors of Ray. `ray_cluster`: connects the program to a Ray cluster.
  `ray_worker`: the code that runs in the driver (the program that opened the fleet). `ray_actor`, `ray_bridge`: the
  code in the actor itself.
* `store`: stores finished results on disk, so that a run can be resumed.
* `each`: runs a function once in each worker, and pauses the upstreams of all workers.
* `looking_after`: runs the code that communicates with a remote worker until that worker has ended.
* `site`: the code that runs in a worker of every engine. `packing`: the encoding of functions, tasks and results.
"""

from typing import TYPE_CHECKING

from .._moved import hints_of
from .each import FindUpstreams, WorkerFunction
from .engine import Engine, FleetWorker, WorkerLost
from .events import (
    EventsMissed,
    EventStream,
    FleetEvent,
    FleetResized,
    MapEnded,
    MapStarted,
    TaskEnded,
    TaskRequeued,
    TaskRetried,
    TaskSkipped,
    TaskStarted,
    WorkerDied,
    WorkerGivenUp,
    WorkerLeft,
    WorkerStarted,
)
from .fleet import Fleet, open_fleet
from .functions import RetryIf, RolloutFunction, SampleFunction
from .groups import Group, Groups, StopGroup
from .in_process import InProcess
from .mapping import Results
from .outcomes import Outcome, Result
from .packing import Packing
from .processes import Processes
from .ray_engine import RayEngine
from .site import OpenWorker
from .store.checking import StoreReport, check_store
from .store.keys import TaskKey
from .store.lines import TracePlace
from .store.places import StoredTraces
from .store.reading import read_results
from .store.store import Store, open_store

if not TYPE_CHECKING:
    __getattr__ = hints_of(__name__)

__all__ = [
    "Engine",
    "EventStream",
    "EventsMissed",
    "FindUpstreams",
    "Fleet",
    "FleetEvent",
    "FleetResized",
    "FleetWorker",
    "Group",
    "Groups",
    "InProcess",
    "MapEnded",
    "MapStarted",
    "OpenWorker",
    "Outcome",
    "Packing",
    "Processes",
    "RayEngine",
    "Result",
    "Results",
    "RetryIf",
    "RolloutFunction",
    "SampleFunction",
    "StopGroup",
    "Store",
    "StoreReport",
    "StoredTraces",
    "TaskEnded",
    "TaskKey",
    "TaskRequeued",
    "TaskRetried",
    "TaskSkipped",
    "TaskStarted",
    "TracePlace",
    "WorkerDied",
    "WorkerFunction",
    "WorkerGivenUp",
    "WorkerLeft",
    "WorkerLost",
    "WorkerStarted",
    "check_store",
    "open_fleet",
    "open_store",
    "read_results",
]
