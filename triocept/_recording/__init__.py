"""Recordings that answer calls in place of a model: replays of traces, and cassettes (YAML files).

`_canonical.form` defines for both when two calls are equal. Both share these modules:

* `volatile`: parts of texts that differ from run to run: directories, dates, times, ids.
* `play`: a recorded answer as a value, and its playback.
* `miss`: the error for a call that has no recorded answer, with the difference to the closest recorded call.
  `yaml_writer`: JSON values as readable YAML.

The two kinds of recordings:

* `replay`: a trace answers calls (`Replay`). A recorded answer can be used any number of times, and events of
  concurrent sub-agents happen in the recorded order.
* `cassettes`: a YAML file answers calls, or calls are recorded in it (`open_cassette`, `use_cassette`). Each recorded
  answer is used once.

A call misses for one of two reasons. Either no recorded call is equal: the error shows the differences to the closest
recorded call. Or the equal recorded call has no answer, because the recorded agent disconnected, but the live agent
stays connected. These modules define which details count when calls are compared:

* in a replay: `replay/record`;
* in a cassette: `cassettes/request_form`. Equal recorded calls are used in order, each once (`cassettes/cassette`).
"""
