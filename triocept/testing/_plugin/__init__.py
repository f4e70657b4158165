"""What `triocept_pytest` does, loaded with the first test that uses a fixture of ours.

* `hooks`: where pytest asks. It needs pytest, and so do `options`, `tapes` and `verdict`.
* `options`: what a test's marks say. `tapes`: its cassette.
* `models`: the fixture `triocept_model`, which opens models.
* `verdict`: what they say of the test at its end. `section`: what its report shows of them.
"""
