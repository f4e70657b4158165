"""Token views for trainers, derived from a trace, never recorded.

* `step`: one call, with the tokens that it read and sampled, its delivery, and its gaps. The tree of tokens: the turn
  whose prompt and completion a prompt begins with.
* `token_branch`: consecutive calls, flat: ids, mask, log probabilities.
* `drift`: comparison of the sampled ids with the ids in the next prompt, with a name for each difference.

Pure: no trio, no I/O, no numeric package.
"""
