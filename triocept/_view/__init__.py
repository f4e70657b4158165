"""The live view: a page on the endpoint on which people watch rollouts, and decide about tool calls.

* `protocol`: the routes, and the JSON that the page and the server exchange.
"""
