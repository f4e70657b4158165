"""Replays: a recorded trace answers calls in place of a model.

* `handler`: `Replay`, and the state of a replay in one live rollout. Read this module first.
* `record`: a trace in the form in which two runs are compared. The module finds the recorded turn for a live call, and
  sends the turn's answer again.
* `order`: the events that must happen before a recorded answer is sent.

Rules:

1. Calls are matched by content, never by their position in a queue. Prompts, texts and tool calls must be equal.
   Results of tools are ignored by default, because they come from the agent's environment, which may differ.
2. A recorded answer can be used any number of times: an equal call gets an equal answer.
"""
