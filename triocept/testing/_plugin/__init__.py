"""Implementation of `triocept_pytest`, loaded with the first test that uses one of triocept's fixtures.

* `hooks`: hooks of pytest. This module needs pytest, and so do `options`, `tapes` and `verdict`.
* `options`: options from the marks of a test. `tapes`: the cassette of a test.
* `models`: the fixture `triocept_model`, which opens models.
* `verdict`: errors that the models add to the result of a test. `section`: the section of the models in a test report.
"""
