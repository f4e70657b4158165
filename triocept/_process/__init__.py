"""The process of an agent, or of a tunnel, and all processes that it starts. No rollouts, and no HTTP.

* `process`: starts a process, and ends it and all that it started, on every path.
* `command`: checks and runs the command. `launch`: the script that marks the process, and becomes the agent.
* `terminal`: gives the program's terminal to an agent.
* `environment`: the program's own environment, without its model providers.
* `output`: the output of a process: its ends in memory, all of it in files.
* `group`: finds and signals an agent's processes. `watcher`: ends the agents when the program is killed.
"""
