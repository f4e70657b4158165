"""Files of traces, after they were written and while they grow.

* `follow`: read traces one by one, also of a file that is being written.
* `lease`: lease sealed traces of a directory, each to one consumer.
"""
