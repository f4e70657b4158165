"""The process of an agent or a tunnel, and all processes that it starts. This package uses no rollouts and no HTTP.

* `process`: starts a process, and always ends it, with all processes that it started.
* `command`: checks and runs the command. `launch`: a script that marks its own process, and then replaces itself with
  the agent.
* `terminal`: gives the program's terminal to an agent.
* `environment`: the agent's environment: the program's environment without keys and endpoints of model providers.
* `output`: the output of a process. The start and the end of the output are kept in memory; files get the whole output.
* `group`: finds an agent's processes, and sends signals to them. `watcher`: ends the agents when the program is killed.
"""
