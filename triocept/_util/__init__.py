"""Helpers that are independent of models, rollouts and HTTP.

* `checks`: checks of arguments; the errors contain the argument's name and the received value.
* `contexts`: context managers that a Ctrl-C cannot interrupt halfway. `failures`: several errors, raised as one.
* `limits`: resource limits of an endpoint. `secrets`: finds keys in texts. `key_forms`: known forms of keys.
* `unicode`: text that UTF-8 can encode. `figures`: short forms of numbers. `terminal`: output that never blocks.
* `sse`: server-sent events. `bare_socket`: reads a trio socket. `threads`: runs functions in threads.
* `loop_watch`: finds functions that block the event loop. `garbage`: settings of the garbage collector.
* `documents`: readers of JSON and YAML files that people write, with line numbers. `disk`: files that survive a power
  cut.
"""
