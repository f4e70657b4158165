"""The profile names functions of the program, which move."""

import json

import pytest

from bench.profile import LAYERS
from tests.programs import run_python

pytestmark = pytest.mark.once

PROGRAM = """
import json, trio
from bench.profile import profile
print(json.dumps(trio.run(profile, 4, 4, 0.3).layers))
"""


@pytest.mark.once
def test_every_layer_that_the_profile_names_is_met_in_a_call() -> None:
    """In a process of its own, for it puts a clock on functions of the program."""
    found = json.loads(run_python(PROGRAM).stdout)
    assert {layer for layer, spent in found.items() if spent > 0} >= LAYERS.keys()
