"""Read the traces in trace files, both complete files and files that are still being written.

* `follow` reads traces one by one, even from a file that is still being written.
* `lease` leases the sealed traces in a directory to consumers, each trace to one consumer at a time.
"""
