"""The live view: a page, served by the endpoint, on which people watch rollouts and decide about tool calls.

* `protocol` describes the routes, and the JSON that the page and the server exchange.
* `source` holds the recorded runs that the page shows. `live` holds the runs of an endpoint; it also sends their events
  to the page, and receives decisions from it.
* `runs` contains one run: the rows of its turns, and its messages by number. `compare` shows two runs side by side.
* `recorded` is a server for the page of recorded runs.
* `app` serves the routes, and checks a request's key, Host and Origin. `files` holds the files of the page, and writes
  the page as one file.
"""
