"""A recording that answers again: replays of traces, and cassettes. Two readers and two policies over one playback.

When are two calls equal? `_canonical.form` defines it for both. Both share:

* `volatile`: parts of texts that differ from run to run: directories, dates, times, ids.
* `play`: a recorded answer as a value, and its playback.
* `miss`: the error if there is no answer, with the difference to the closest recorded call. `yaml_writer`: JSON values
  as YAML, for people.

The policies:

* `replay`: a trace answers again. Nothing is consumed; the order between sub-agents is kept. `Replay`.
* `cassettes`: a YAML file answers again, or is recorded. Each call is consumed. `open_cassette`, `use_cassette`.

Why does a call miss? The error shows what differs. These files define what counts:

* in a replay: `replay/record` (calls, equal turns), `_canonical/form` (parts of calls);
* in a cassette: `cassettes/request_form` (calls), `_canonical/form` (parts of calls), `cassettes/cassette` (equal
  calls).
"""
