"""Whole programs that are cancelled, or interrupted by Ctrl-C, at each of their steps; and a look at what is left.

* `programs`: the programs. `scene`: what one of them notes of its rollouts, handlers and clients.
* `point`: one run of a program in a process of its own, which ends at one step. `left`: what that process has left.
* `sweep`: the points of a program. `__main__`: `python -m tests.interrupts --only agent --kind ctrl-c`.

Rules:

1. A run is a fork of a process that has imported everything and has run nothing: no run sees what another one left.
2. That process adopts the orphans of its runs (PR_SET_CHILD_SUBREAPER): whatever still runs behind a run is seen.
3. No process, thread or descriptor is left, and each rollout that was opened has a whole, sealed file, in which each
   exchange that reached a handler has one turn. A client with a whole answer has it after its turn was recorded.
"""
