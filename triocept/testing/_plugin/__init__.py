"""Implementation of the pytest plugin `triocept_pytest`, loaded when the first test uses one of its fixtures.

* `hooks`: hooks of pytest. The modules `hooks`, `options`, `tapes` and `verdict` import pytest.
* `options`: reads options from the marks of a test. `tapes`: finds or creates the cassette of a test.
* `models`: the fixture `triocept_model`, which opens models.
* `verdict`: combines the errors of a test's models with the result of the test. `section`: makes the section of a test
  report that lists the models' calls.
"""
