"""The command line: `triocept run`, `serve`, `fleet`, `eval`, `demo`, and commands that read trace files.

* `commands`: the commands and their options.
* `options`: base classes for commands and options, suggestions for mistyped names, and options that several commands
  share.
* `agent_plan`: describes the agent that `run` and `fleet` start. `install`: the shell commands that install the known
  agents. `limits`: the options for the limits of a run.
* `run`: opens an endpoint and a rollout, and runs an agent.
* `serve`: opens an endpoint and a rollout, for agents that are started elsewhere.
* `approval`: the options `--policy` and `--approve`, by which a policy or a person decides on tool calls.
* `forward`: a real model that answers calls. `script`: a script that answers calls. `handler_file`: a handler in a
  Python file. `watch`: a script that is reloaded when its file changes.
* `replay`: a recorded run that answers calls. With `--record-once`, the first run of the command records it.
* `fleet`: runs many rollouts from a file of prompts. `fleet_command` defines its options, `fleet_given` checks the file
  of prompts and the engine, `fleet_worker` runs in each worker, and `fleet_live` shows the rollouts of all workers.
* `eval`: runs an agent on a list of tasks, scores its work, and prints a table.
* `compare`: the command that compares the scores of two evaluations, or two runs of one task. `compare_runs`: shows the
  two runs side by side.
* `export`: writes traces in another format.
* `check`: checks that trace files are complete.
* `demo`: runs a small bundled agent (`demo_agent`) with a scripted model.
* `json_events`: prints the events of a run as JSON.
* `live`: prints a run in progress for a person. The run continues if the terminal is closed.
  `live_table`: the table of `--live`. `waiting`: a line for a call that waits long for its answer.
* `looking`: the commands `show`, `diff` and `stats`, which read trace files (`files`). `show` prints a line for each
  turn, `turn` one complete turn, `diff` the differences between two turns. `stats` counts all calls and the percentiles
  of their times, and `stats_table` prints them; `scores` prints the scores of an evaluation.
* `view`: serves a page that shows trace files in a browser.
* `page`: writes lines to standard output, to a terminal or a pipe. `words`: short descriptions of turns.
* `ending`: ends a command with an exit status, an error text, or a signal.
"""

from .commands import main

__all__ = ["main"]
