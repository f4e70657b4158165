"""Store a fleet's finished results on disk, so that a resumed run executes only the tasks without a result.

The driver is the program that opened the fleet. The directory of a store::

    run.json                                format and id of the store, and the settings of its run
    lock                                    locked (flock) by the driver that has opened the store, and names it
    traces/<worker>-<pid>-<random>.jsonl    a file of `JSONLRecorder` for each worker process
    done.jsonl                              a line for each task that has its outcome

Rules:

1. A task is done if and only if it has a line in `done.jsonl`. A trace to which no line of `done.jsonl` refers belongs
   to an attempt without a result. Even such a trace may be sealed (recorded as complete), since a cancelled rollout is
   sealed, too.
2. First the worker writes the traces, then the driver writes the line in `done.jsonl`, then the map yields the result.
   So if a process is killed, running calls are lost, but no result is lost.
3. Only one process ever writes to a file of traces. So only the last line of the file can be incomplete.
4. A task is identified by its key, and never by its index.
5. If the result of a task cannot be recorded, the task is not done, and the map raises the error.

* `layout`: the directory, its lock, `run.json`. `lines`: `done.jsonl`.
* `keys`: identifiers of tasks, which stay the same in a resumed run.
* `recording`: records rollouts in a worker. `places`: reads the traces of a result from the files, at each access.
* `store`: the code that runs in the driver: `open_store`, and the part of a store that one map uses. `reading`: the
  function `read_results`.
* `checking`: `check_store`.
"""
