"""Replays: a recorded trace answers calls again.

* `handler`: `Replay`, and a replay in one live rollout. The file to read first.
* `record`: a trace in the form in which two runs are compared. It finds the recorded turn for a live call, and gives
  its answer.
* `order`: the events that must happen before a recorded answer is given.

Rules:

1. Matching is by content, never by position in a queue. The agent's prompts and tool calls count. The results of its
   tools do not count by default: they come from its environment, which may differ.
2. A recorded answer can be used any number of times: an equal call gets an equal answer.
"""
