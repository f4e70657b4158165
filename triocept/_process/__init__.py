"""The process of an agent, or of a tunnel, and all that it starts. Knows no rollout, and no HTTP.

* `process`: starts it, and ends it and all that it started, on every path.
* `command`: what it is started from, checked before. `launch`: the script that marks it, and becomes it.
* `environment`: the program's own, without its model providers.
* `output`: what it writes: the ends of it in memory, all of it in files.
* `group`: which processes are its own, and how they get a signal. `watcher`: ends them when the program is killed.
"""
