"""Replays: a recorded trace answers again.

* `handler`: `Replay`. The file to read first. `run`: a replay in one live rollout.
* `moves`: what a call asks, in the form in which two runs are compared.
* `record`: a trace, indexed by what its turns ask. `matching`: the recorded turn for a live call, strictly or nearest.
* `order`: what has to have happened before a recorded answer is given. `launches`: which turn began a sub-agent, and
  which call first lists its end. `gate`: the order, kept while a replay runs.
* `descent`: the turns of a record that follow from one of its turns.
* `answer`: a recorded outcome, given again verbatim.
* `miss`: the error for a call without a recorded answer, with the difference to the closest turn.

Rules:

1. Anchored on content: nothing is matched by its place in a queue. The moves of the agent count (its prompts, its
   calls); the results of its tools are the world, which may differ.
2. Nothing is consumed: the same call again gets the same answer.
"""
