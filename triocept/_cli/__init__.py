"""The command line: `triocept run`, `serve`, `fleet`, `demo`, and what looks at trace files.

* `commands`: their options.
* `run`: an endpoint, a rollout, an agent.
* `serve`: an endpoint and a rollout, for agents that are started elsewhere.
* `forward`, `script`: what answers behind either: a real model, or a scripted one. `watch`: a script that is read anew
  when its file changes.
* `replay`: what answers as a recorded run did, and what is recorded once. `limits`: what a run may spend.
  `redact`: what is taken out of the record.
* `fleet`: many rollouts, of a file of prompts: its options in `fleet_command`, the file and the engine in
  `fleet_given`, what a worker does in `fleet_worker`.
* `export`: a file of traces, in another format.
* `check`: whether trace files are whole.
* `demo`: the same with a small agent that is bundled (`demo_agent`) and a scripted model.
* `live`: what a person sees of a run that is going on, on a screen that fails nobody.
* `looking`: the commands that look at `files`, and their options. `show`: a file's rollouts, a line for each turn;
  `turn`: one turn whole; `diff`: two turns compared; `stats`, `stats_table`: all calls, counted, with percentiles
  of their times.
* `page`: standard output, for a person or a pipe. `words`: how turns are told in few letters.
* `ending`: how a command ends: with its work, with an error in words, or by a signal.
"""

from .commands import main

__all__ = ["main"]
