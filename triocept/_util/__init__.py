"""Helpers without models, rollouts or HTTP.

* `checks`: checks of arguments, with errors that name the argument and what was received.
* `contexts`: context managers that a Ctrl-C cannot cut in two. `failures`: several errors, raised as one.
* `limits`: resource limits of an endpoint. `secrets`: the finder of keys. `key_forms`: their known forms.
* `unicode`: text that every wire can hold. `figures`: short numbers. `terminal`: output that never blocks.
* `sse`: bytes of server-sent events. `bare_socket`: bytes of a trio socket. `threads`: work in threads.
* `loop_watch`: finds functions that block the event loop.
* `documents`: JSON and YAML files that people write, with line numbers. `disk`: files that survive a power cut.
"""
