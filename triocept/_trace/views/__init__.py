"""Views of a trace's tokens for trainers. The views are derived from the trace and never recorded.

* `step`: one call, with its prompt's tokens, its sampled tokens, its delivery and its gaps. The module also builds the
  tree of tokens. In this tree, the parent of a turn is the turn whose prompt and completion are the beginning of the
  turn's own prompt.
* `token_branch`: consecutive calls as one sequence of ids, with a mask and log probabilities.
* `drift`: compares the sampled ids with the ids in the next prompt, and names each difference.

The package uses no trio, no I/O and no numeric package.
"""
