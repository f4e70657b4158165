"""A recording that answers again: replays of traces, and cassettes. Two readers and two policies over one playback.

When are two calls the same? `_canonical.form` defines it for both. What differs from run to run:

* `roots`: the directories of an agent. `volatile`: dates, times, ids, the state of the working directory.

The playback of a recorded answer:

* `answer`: the outcome of a call, as a value. `pieces`: an answer in its pieces, with their times.
* `play`: an answer given again: whole, in its pieces, or to where it broke. `miss`: the error where there is none.

The policies:

* `replay`: a trace answers again. Nothing is consumed; an order is kept between sub-agents. `Replay`.
* `cassettes`: a YAML file answers again, or is recorded. Each call is consumed. `open_cassette`, `use_cassette`.

Why does a call miss? The error shows the difference to the closest recorded call. Three files define what counts:

* in a replay: `replay/moves` (calls), `_canonical/form` (parts of them), `replay/matching` (equal turns);
* in a cassette: `cassettes/normal` (calls), `_canonical/form` (parts of them), `cassettes/cassette` (equal calls).
"""
