"""Store of a fleet's finished results on disk: a resumed run executes only the tasks without a result.

The driver is the program that opened the fleet. The directory of a store::

    run.json                                format and id of the store, and the settings of its run
    lock                                    locked (flock) by the driver that has opened the store, and names it
    traces/<worker>-<pid>-<random>.jsonl    a file of `JSONLRecorder` for each worker process
    done.jsonl                              a line for each task that has its outcome

Rules:

1. A task is done if and only if it has a line in `done.jsonl`. A trace that no line names belongs to an attempt without
   a result. Such a trace may be sealed, since a cancelled rollout is sealed, too.
2. The worker writes the traces first, then the driver writes its line, then the map's reader gets the result. So if a
   process is killed, only running calls are lost, and never a result.
3. A file of traces has one writer, and its name is never used again. So an incomplete line can only be its last line.
4. A task is identified by its key, and never by its index.
5. A task that could not be recorded is not done: the map ends with that error.

* `layout`: the directory, its lock, `run.json`. `lines`: `done.jsonl`.
* `keys`: identifiers of tasks that stay the same in a resumed run.
* `recording`: the code in a worker. `places`: the traces of a result, read on access.
* `store`: the code in the driver: `open_store`, and the store of a map. `reading`: `read_results`.
* `checking`: `check_store`.
"""
