"""Read the options of a test's models from its marks `triocept`, or from pytest's configuration.

If several marks set an option, the value of the nearest mark is used.

An invalid mark raises an error in each test that has the mark; the error's text names the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from ..._recording.cassettes.cassette import CassetteOptions
from ..._rollout.options import RolloutOptions
from ..._util.checks import check_bool, check_keywords, check_type


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options for all models of a test. Arguments of `triocept_model(…)` override them."""

    environ: bool
    """True to point the environment variables to the test's models."""
    must_be_used: bool
    """True if the test fails when a reply is unused at the end of the test."""
    rollout: RolloutOptions
    """Further options of the models' rollouts."""
    cassette: bool | str
    """True if the test has a cassette; a string is the name of the cassette's file."""
    cassette_options: Mapping[str, Any]
    """The cassette's options that the marks set; see `triocept.cassettes`."""


_OWN = ("environ", "must_be_used")
_ROLLOUT = tuple(RolloutOptions.__annotations__)
_CASSETTE = (*CassetteOptions.__annotations__, "dialect", "api_key_env")


def options_of(item: pytest.Item) -> ModelOptions:
    """Return the options from the marks of a test. Options that no mark sets are taken from pytest's configuration."""
    given: dict[str, Any] = {}
    for mark in item.iter_markers("triocept"):
        try:
            given = _checked(mark) | given
        except (TypeError, ValueError) as exc:
            text = f"{item.nodeid}: @pytest.mark.triocept: {exc}"
            raise pytest.fail.Exception(text, pytrace=False) from None
    cassette = given.get("cassette", False)
    own = {name: given.get(name, item.config.getini(f"triocept_{name}")) for name in _OWN}
    # Several tests may share a cassette with an explicit name.
    own["must_be_used"] &= isinstance(cassette, bool) or "must_be_used" in given
    return ModelOptions(
        **own,
        rollout=cast(RolloutOptions, {name: given[name] for name in given if name in _ROLLOUT}),
        cassette=cassette if isinstance(cassette, bool) else str(cassette),
        cassette_options={name: given[name] for name in given if name in _CASSETTE},
    )


def _checked(mark: pytest.Mark) -> dict[str, Any]:
    if mark.args:
        raise TypeError(
            f"the mark takes only keyword arguments, not {mark.args[0]!r}: pass replies or a handler to the "
            "fixture, as `triocept_model('hello')`"
        )
    given = dict(mark.kwargs)
    check_keywords("triocept", given, (*_OWN, "cassette", *_CASSETTE, *_ROLLOUT))
    for name in {*_OWN} & given.keys():
        check_bool(name, given[name])
    cassette = given.get("cassette", False)
    check_type("cassette", cassette, (bool, str, Path), "True, or the name of a file")
    return given
