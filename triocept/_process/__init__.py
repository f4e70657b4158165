"""The process of an agent, or of a tunnel, and all processes that it starts. The package uses no rollouts and no HTTP.

* `process`: starts a process, and always ends it and all processes that it started.
* `command`: checks and runs the command. `launch`: the script that marks its own process and then becomes the agent.
* `terminal`: gives the program's terminal to an agent.
* `environment`: the agent's environment: that of the program, without keys and endpoints of model providers.
* `output`: the output of a process: its start and end are kept in memory, all of it goes to files.
* `group`: finds and signals an agent's processes. `watcher`: ends the agents when the program is killed.
"""
