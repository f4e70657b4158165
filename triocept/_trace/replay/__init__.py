"""Which recorded turn answers a live call, and when: all of a replay that needs no clock.

* `roots`: the directories of an agent, which differ from run to run.
* `volatile`: what else differs: dates, ids.
* `moves`: what an agent has said and done so far, in the form in which two runs are compared.
* `record`: a trace, ready to be compared with.
* `launches`: which turn began a sub-agent, and where its end was told.
* `order`: what has to have happened before a recorded answer is given.
* `descent`: what of a record follows from one of its turns.
* `matching`: the recorded turn for a live call, strictly or as near as there is.
* `pieces`: a recorded answer, in the pieces in which it came.
* `difference`: two calls side by side, for a person.

Rules:

1. Anchored on content: nothing is matched by its place in a queue. The agent's moves count (what it was told, what it
   called); what its tools gave is the world, which may differ.
2. Nothing is consumed: the same call again gets the same answer.
"""
