"""Recordings that answer calls in place of a model: replays of traces, and cassettes (YAML files).

There are two kinds of recordings. The module `_canonical.form` defines for both kinds when two calls are equal. Both
kinds use these modules:

* `volatile` removes parts of texts that differ from run to run: directories, dates, times, ids.
* `play` contains a recorded answer as a value, and sends it again.
* `miss` makes the error for a call that has no recorded answer, with the difference to the closest recorded call.
  `yaml_writer` writes JSON values as readable YAML.

The two kinds of recordings:

* `replay`: a trace answers calls (`Replay`). A recorded answer can be used any number of times. Answers to concurrent
  sub-agents are sent in the recorded order.
* `cassettes`: a YAML file answers calls, or the calls of a run are recorded in the file (`open_cassette`,
  `use_cassette`). Each recorded answer is used once.

A recording cannot answer a call in two cases:

1. No recorded call is equal. The error shows the differences to the closest recorded call.
2. An equal recorded call has no answer, because the recorded agent disconnected, but the live agent stays connected.

Which details are compared is defined by the module `replay/record` for replays, and by `cassettes/request_form` for
cassettes. A cassette uses equal recorded calls in order, each once (`cassettes/cassette`).
"""
