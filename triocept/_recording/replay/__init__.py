"""Replays: a recorded trace answers again.

* `handler`: `Replay`. The file to read first. `run`: a replay in one live rollout.
* `moves`: the content of a request, in the form in which two runs are compared.
* `record`: a trace, indexed by the content of its requests. `matching`: the recorded turn for a live call, strictly or
  nearest.
* `order`: events that must precede a recorded answer. `launches`: the turn that began a sub-agent, and the call that
  first lists its end. `gate`: enforces the order while a replay runs.
* `descent`: the turns of a record that follow from one of its turns.
* `answer`: a recorded outcome, given again verbatim.
* `miss`: the error for a call without a recorded answer, with the difference to the closest turn.

Rules:

1. Matching is by content, never by position in a queue. The moves of the agent count (its prompts, its calls). The
   results of its tools come from its environment, which may differ.
2. Nothing is consumed: an equal call gets an equal answer.
"""
