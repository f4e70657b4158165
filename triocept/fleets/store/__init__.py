"""What a fleet has done, kept on disk: who resumes it runs the rest alone.

The directory of a store::

    run.json                                what it is: its format, its run, the settings it was opened with
    lock                                    the driver that has it (flock)
    traces/<worker>-<pid>-<random>.jsonl    a file of `JSONLRecorder` for each worker process
    done.jsonl                              a line for each task that has its outcome

Rules:

1. What stands in `done.jsonl` is done, and nothing else is: a trace that no line names is of an attempt that ended in
   no result, whether it is sealed or not. A rollout that is cancelled is sealed, too.
2. The worker's lines come first, then the driver's, then whoever reads the map. So a kill at any moment costs a run
   again, and never a result.
3. A file of traces has one writer, and its name is never used again: what is cut stays at its end.
4. A task is known by its key, and never by its place.
5. What could not be recorded is not done: the map ends with that error.

* `layout`: the directory, its lock, `run.json`. `lines`: `done.jsonl`.
* `keys`: what tells a task from every other one, today and tomorrow.
* `recording`: the worker's side. `places`: the traces of a result, read when they are asked for.
* `store`: the driver's side: `open_store`, and what a map asks of it. `reading`: `read_results`.
* `checking`: `check_store`.
"""
