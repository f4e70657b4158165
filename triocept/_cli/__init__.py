"""The command line: `triocept run`, `serve`, `fleet`, `demo`, and commands that read trace files.

* `commands`: the commands and their options.
* `options`: commands with grouped options, suggestions for mistyped names, and options of several commands.
* `agent_plan`: the agent that `run` and `fleet` start. `limits`: the budget of a run.
* `run`: an endpoint, a rollout, an agent.
* `serve`: an endpoint and a rollout, for agents that are started elsewhere.
* `approval`: decisions on tool calls.
* `forward`, `script`, `handler_file`: the model behind either: a real model, a scripted one, or a handler in a file.
  `watch`: a script that is reloaded when its file changes.
* `replay`: a handler that answers as a recorded run did, and runs that are recorded once.
* `fleet`: many rollouts, from a file of prompts. `fleet_command`: its options. `fleet_given`: the file and the engine.
  `fleet_worker`: the work of a worker.
* `export`: a file of traces, in another format.
* `check`: checks that trace files are complete.
* `demo`: `run` with a small bundled agent (`demo_agent`) and a scripted model.
* `json_events`: the events of a run, as JSON.
* `live`: the output of a run in progress, for a person; a closed terminal fails no run.
* `looking`: the commands that read `files`, and their options. `show`: a file's rollouts, a line for each turn;
  `turn`: one complete turn; `diff`: two turns compared; `stats`, `stats_table`: all calls, counted, with percentiles
  of their times.
* `page`: standard output, for a person or a pipe. `words`: short descriptions of turns.
* `ending`: the end of a command: a status, an error in words, or a signal.
"""

from .commands import main

__all__ = ["main"]
