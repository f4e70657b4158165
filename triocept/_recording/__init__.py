"""A recording that answers again: replays of traces, and cassettes. Two readers and two policies over one playback.

When are two calls equal? `_canonical.form` defines it for both. Parts that differ from run to run:

* `roots`: the directories of an agent. `volatile`: dates, times, ids, the state of the working directory.

The playback of a recorded answer:

* `answer`: the outcome of a call, as a value. `pieces`: an answer in its pieces, with their times.
* `play`: gives an answer again: whole, in its pieces, or up to where it broke. `miss`: the error if there is no answer.

The policies:

* `replay`: a trace answers again. Nothing is consumed; the order between sub-agents is kept. `Replay`.
* `cassettes`: a YAML file answers again, or is recorded. Each call is consumed. `open_cassette`, `use_cassette`.

Why does a call miss? The error shows the difference to the closest recorded call. Three files define what counts:

* in a replay: `replay/moves` (calls), `_canonical/form` (parts of calls), `replay/matching` (equal turns);
* in a cassette: `cassettes/normal` (calls), `_canonical/form` (parts of calls), `cassettes/cassette` (equal calls).
"""
