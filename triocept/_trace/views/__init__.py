"""Token views for trainers, derived from a trace, never recorded.

* `gaps`: the names of missing data, and of unknown values.
* `delivery`: the delivery of each answer to the agent, and the answer that replaced it.
* `token_tree`: the turn whose prompt and completion a prompt begins with, token by token.
* `step`: one call, with the tokens that it read and sampled.
* `token_branch`: consecutive calls, flat: ids, mask, log probabilities.
* `ids`: comparison of sequences of ids.
* `message_change`: an agent's changes to the messages of a turn.
* `drift`: comparison of the sampled ids with the ids in the next prompt, with a name for each difference.

Pure: no trio, no I/O, no numeric package.
"""
