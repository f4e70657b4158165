"""A Ray cluster of two nodes on this machine, for the tests of one program; this program is connected to it."""

from __future__ import annotations

import atexit
import os
from functools import cache
from pathlib import Path
from typing import Any

# Both are read when Ray is imported, and by what it starts: no address but the loopback's, and nothing is reported.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of what that will be

NODE = {"num_cpus": 4, "object_store_memory": 100 * 2**20, "include_dashboard": False}


def two_nodes() -> Any:
    """A cluster; whoever has it shuts it down."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=dict(NODE))
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    return cluster


@cache
def the_cluster() -> Any:
    """The one of this program, which is connected to it: that is what takes the time."""
    import ray

    cluster = two_nodes()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    atexit.register(shut_down, cluster)
    return cluster


def shut_down(cluster: Any) -> None:
    import ray

    ray.shutdown()
    cluster.shutdown()


def raylet_of(node: Any) -> int:
    """The process that a node's workers are children of."""
    return int(node.all_processes["raylet"][0].process.pid)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
