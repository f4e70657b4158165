"""Cassettes: calls of a real model are recorded once, and answered from a file from then on.

* `opening`: `open_cassette`, `use_cassette`. The file to read first.
* `cassette`: the handler. `view`: a recorded call, for a program. `forwarding`: a real model, for programs that do not
  run in trio.
* `normal`: the form in which calls are compared and written. `restored`: the request that has a form.
* `hooks`: functions of the program that remove what differs from run to run.
* `watching`: the outcome of a call, as an `Answer` without keys. `recounted`: the pieces of that answer.
  `unrecordable`: the outcomes that no cassette keeps.
* `merge`: a new recording merged with the one before.
* `miss`: the error for a call that is not recorded.
* `document`, `answer_form`: a cassette in JSON, and back. `files`: its file. `yaml_writer`: JSON in YAML, for people.
"""
