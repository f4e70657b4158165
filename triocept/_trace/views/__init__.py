"""Token views for trainers, derived from a trace, never recorded.

* `step`: one call, with the tokens that it read and sampled, its delivery, and its gaps. Also the tree of tokens, in
  which a turn's parent is the turn whose prompt and completion its prompt begins with.
* `token_branch`: consecutive calls as one sequence of ids, with a mask and log probabilities.
* `drift`: comparison of the sampled ids with the ids in the next prompt, with a name for each difference.

Pure: no trio, no I/O, no numeric package.
"""
