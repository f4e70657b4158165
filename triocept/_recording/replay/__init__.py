"""Replays: a recorded trace answers again.

* `handler`: `Replay`, and a replay in one live rollout. The file to read first.
* `record`: a trace in the form in which two runs are compared; the recorded turn for a live call, and its answer.
* `order`: events that must precede a recorded answer.

Rules:

1. Matching is by content, never by position in a queue. The moves of the agent count (its prompts, its calls). The
   results of its tools come from its environment, which may differ.
2. Nothing is consumed: an equal call gets an equal answer.
"""
