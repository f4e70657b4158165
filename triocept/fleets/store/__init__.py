"""Finished results of a fleet on disk: a resumed run executes only the rest.

The directory of a store::

    run.json                                what it is: its format, its run, the settings it was opened with
    lock                                    the driver that has it (flock)
    traces/<worker>-<pid>-<random>.jsonl    a file of `JSONLRecorder` for each worker process
    done.jsonl                              a line for each task that has its outcome

Rules:

1. A task is done if and only if it has a line in `done.jsonl`. A trace that no line names belongs to an attempt without
   a result, sealed or not. A cancelled rollout is sealed, too.
2. The worker's lines are written first, then the driver's, then the map's reader gets the result. So a kill at any
   moment loses a running call, and never a result.
3. A file of traces has one writer, and its name is never used again: an incomplete line stays at its end.
4. A task is identified by its key, and never by its index.
5. A task that could not be recorded is not done: the map ends with that error.

* `layout`: the directory, its lock, `run.json`. `lines`: `done.jsonl`.
* `keys`: identifiers of tasks that stay the same in a resumed run.
* `recording`: the worker's side. `places`: the traces of a result, read on access.
* `store`: the driver's side: `open_store`, and the store of a map. `reading`: `read_results`.
* `checking`: `check_store`.
"""
