"""Cassettes: calls of a real model are recorded once, and answered from a file since.

* `opening`: `open_cassette`, `use_cassette`. The file to read first.
* `cassette`: the handler. `view`: a call in it, for a program. `forwarding`: a real model, for programs that do not run
  in trio.
* `normal`: the form in which calls are compared, and written down. `restored`: a request again.
* `hooks`: what a program wants out of it. `keys`: keys, which nobody wants in it.
* `watching`: what an agent got. `answer`: that, as a value. `recounted`: its pieces. `giving`: it, given again.
  `unrecordable`: what no cassette keeps.
* `merge`: what was recorded anew, beside what was there before.
* `miss`: what is said of a call that is not recorded.
* `document`, `answer_form`: all of it in JSON, and back. `files`: its file.
* `yaml_writer`: JSON in YAML, for people.
"""
