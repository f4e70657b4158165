"""Cassettes: calls of a real model are recorded once, and answered from a file from then on.

* `cassette`: the handler, `open_cassette`, `use_cassette`. The file to read first.
* `request_form`: the form in which calls are compared and written, and the request that has a form.
* `hooks`: functions of the program that remove what differs from run to run; a real model, for programs that do not run
  in trio.
* `recorder`: the outcome of a call, as an `Answer` without keys; and the outcomes that no cassette keeps.
* `document`: a cassette in JSON, and back; its merge with a new recording; its file. `answer_form`: its answers.
"""
