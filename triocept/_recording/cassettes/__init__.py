"""Cassettes: calls to a real model are recorded in a file once. Later runs get their answers from the file.

* `cassette`: the handler, `open_cassette`, `use_cassette`. Read this module first.
* `request_form`: the form in which requests are compared and written, and the conversion of a form back to a request.
* `hooks`: the functions that a program can pass, which remove details that differ from run to run. It also contains
  `forward_to`, which forwards calls to a real model in programs that do not run in trio.
* `recorder`: converts the outcome of a call to an `Answer` without API keys. If an outcome cannot be recorded, it makes
  an error.
* `document`: the conversion of a cassette to JSON and back, its merge with a new recording, and its file.
  `answer_form`: the conversion of the answers in a cassette.
"""
