"""A recording that answers again: replays of traces, and cassettes. Two readers and two policies over one playback.

When are two calls equal? `_canonical.form` defines it for both. Both share:

* `volatile`: parts of texts that differ from run to run: directories, dates, times, ids.
* `play`: a recorded answer as a value, and its playback.
* `miss`: the error if there is no answer, with the difference to the closest recorded call. `yaml_writer`: JSON values
  as YAML, for people.

The policies:

* `replay`: a trace answers again. Nothing is consumed; the order between sub-agents is kept. `Replay`.
* `cassettes`: a YAML file answers again, or is recorded. Each call is consumed. `open_cassette`, `use_cassette`.

Why does a call miss? No recorded call is equal, and the error shows what differs from the closest. Or an equal call
has no answer: the recorded agent disconnected, and the live agent does not. One file defines what counts:

* in a replay: `replay/record`;
* in a cassette: `cassettes/request_form`. Equal calls are used up in order (`cassettes/cassette`).
"""
