"""What each pair of dialects keeps, changes and loses is what the documentation says."""

from functools import cache

import pytest

from .pairs.page import PAGE, page_of, read_table, table_of
from .pairs.walk import FEATURES, NAMES, STREAM_ONLY, UNSAID, Feature, walk

ANEW = "if that is meant: python -m tests.dialects.pairs"
checked_in = cache(read_table)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_what_becomes_of_a_feature_is_what_the_table_says(feature: Feature) -> None:
    seen = {start: {end: walk(feature, start, end) for end in NAMES} for start in NAMES}
    told = {start: checked_in().get((feature.group, feature.name, start)) for start in NAMES}
    assert told == seen, ANEW


@pytest.mark.parametrize("name", NAMES)
def test_where_both_sides_speak_one_dialect_everything_is_kept(name: str) -> None:
    kept = {"kept", UNSAID, f"{STREAM_ONLY}kept"}
    assert {
        key: cells[name] for key, cells in checked_in().items() if key[2] == name and cells[name] not in kept
    } == {}


def test_every_feature_can_be_said_in_some_dialect() -> None:
    said = {key[:2] for key, cells in checked_in().items() if cells[key[2]] != UNSAID}
    assert said == {(feature.group, feature.name) for feature in FEATURES}


def test_the_page_of_the_documentation_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_of(checked_in()), ANEW
    assert table_of(checked_in()).count("\n") == 1 + len(FEATURES) * len(NAMES)
