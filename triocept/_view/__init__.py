"""The live view: a page, served by the endpoint, on which people watch rollouts and decide about tool calls.

* `protocol`: the routes, and the JSON that the page and the server exchange.
* `source`: the recorded runs that the page shows. `live`: the runs of an endpoint, with a live stream and decisions.
* `runs`: one run: the rows of its turns, and its messages by number. `compare`: two runs side by side.
* `recorded`: a server for the page of recorded runs.
* `app`: the routes, and the checks of a request's key, Host and Origin. `files`: the files of the page, and the page as
  one file.
"""
