"""Mutation testing: the program is changed in one place, and the tests that belong to the place have to fail.

The changes are those of cosmic-ray, used as a library (`cosmic_ray.mutating.mutate_code` and its operators), and some
of ours that are operators of cosmic-ray's kind. The run around them is ours:

- `cosmic-ray exec` has one command of tests for all files, takes no sample by a seed, stops at no time, and changes the
  tree that it is started in.
- mutmut calls each function through a wrapper that chooses between copies of it. That adds a frame to each call (a
  traceback and what the loop sees of a coroutine are not those of the program), leaves everything outside of functions
  as it is, and what a test starts with an environment of its own runs unchanged. It takes no sample either.

Rules: a mutant is applied in a copy of the tree, never in the tree. The copy has a Python of its own, whose
`sys.executable` imports the copy whatever the environment and the folder: what the tests start as a program is the
mutant too. A test that hangs has found something, so a limit of time is a kill.
"""
