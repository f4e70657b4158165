"""The live view: a page on the endpoint on which people watch rollouts, and decide about tool calls.

* `protocol`: the routes, and the JSON that the page and the server exchange.
* `source`: what the page shows, of recorded runs. `live`: the same of a running endpoint, with streams and decisions.
* `runs`: one run: rows of its turns, its messages by number. `compare`: two runs side by side.
* `recorded`: a server for the page of recorded runs.
* `app`: the routes, and the checks of key, Host and Origin. `files`: the files of the page, and the page as one file.
"""
