"""Token views: what a trainer needs, derived from a trace, never recorded.

* `gaps`: the names of what is missing, and of what nobody said.
* `delivery`: whether the agent got an answer, and which one took its place.
* `token_tree`: which prompt begins with which turn's prompt and completion, token by token.
* `step`: one call, with the tokens that it read and sampled.
* `token_branch`: calls in a row, flat: ids, mask, log probabilities.
* `ids`: how far sequences of ids are the same.
* `message_change`: what an agent has changed of the messages of a turn.
* `drift`: whether the ids came back that were sampled, and what it is called if they did not.

Pure: no trio, no I/O, no numeric package.
"""
