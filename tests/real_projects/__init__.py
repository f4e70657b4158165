"""The plugin of pytest, in projects of other people's: each in an environment of its own, where triocept comes from its
wheel. Not collected by the test suite: `nox -s plugin`.

A project is a folder in `projects`. A test of it whose docstring begins with `Fails:` has to fail, and to say what
stands there; all others have to pass. Nothing else may go wrong: no error at a set-up or a teardown.
"""
