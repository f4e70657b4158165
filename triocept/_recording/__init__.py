"""Recordings that answer calls again: replays of traces, and cassettes. Both use the same playback.

`_canonical.form` defines for both when two calls are equal. Both share these modules:

* `volatile`: parts of texts that differ from run to run: directories, dates, times, ids.
* `play`: a recorded answer as a value, and its playback.
* `miss`: the error for a call that has no recorded answer, with the difference to the closest recorded call.
  `yaml_writer`: JSON values as readable YAML.

The two kinds of recordings:

* `replay`: a trace answers calls again (`Replay`). A recorded answer can be used any number of times, and the order
  between sub-agents is kept.
* `cassettes`: a YAML file answers calls again, or is recorded (`open_cassette`, `use_cassette`). Each recorded answer
  is used once.

A call misses for one of two reasons. Either no recorded call is equal: the error shows what differs from the closest
recorded call. Or the equal recorded call has no answer, because the recorded agent disconnected, and the live agent
does not. These modules define what counts when calls are compared:

* in a replay: `replay/record`;
* in a cassette: `cassettes/request_form`. Equal recorded calls are used in order, each once (`cassettes/cassette`).
"""
