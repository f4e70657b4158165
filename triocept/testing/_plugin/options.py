"""What a test's models are like: of its marks `triocept`, the nearest first, then of pytest's configuration.

A mistake in a mark is an error of the test that has it, and names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest

from ..._checks import check_bool, check_keywords
from ..._rollout.options import RolloutOptions

__all__ = ["ModelOptions", "options_of"]


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all models of a test, unless one is opened with something else."""

    environ: bool
    """Whether the environment of the test points at them."""
    must_be_used: bool
    """Whether a reply that is left at the end fails the test."""
    rollout: RolloutOptions
    """All else that a rollout takes."""


_OWN = ("environ", "must_be_used")
_ROLLOUT = tuple(RolloutOptions.__annotations__)


def options_of(item: pytest.Item) -> ModelOptions:
    """What the marks of a test say, and the configuration where they say nothing.

    Raises:
        pytest.fail.Exception: there is a mistake in a mark; the text names the test.
    """
    given: dict[str, Any] = {}
    for mark in item.iter_markers("triocept"):
        try:
            given = _checked(mark) | given
        except (TypeError, ValueError) as exc:
            text = f"{item.nodeid}: @pytest.mark.triocept: {exc}"
            raise pytest.fail.Exception(text, pytrace=False) from None
    return _options(given, item.config)


def _checked(mark: pytest.Mark) -> dict[str, Any]:
    if mark.args:
        raise TypeError(
            f"it takes options, by their names, and not {mark.args[0]!r}: replies and a handler are given to the "
            "fixture, as `triocept_model('hello')`"
        )
    check_keywords("triocept", mark.kwargs, (*_OWN, *_ROLLOUT))
    for name in {*_OWN} & mark.kwargs.keys():
        check_bool(name, mark.kwargs[name])
    return dict(mark.kwargs)


def _options(given: Mapping[str, Any], config: pytest.Config) -> ModelOptions:
    own = {name: given.get(name, config.getini(f"triocept_{name}")) for name in _OWN}
    rollout = {name: value for name, value in given.items() if name in _ROLLOUT}
    return ModelOptions(**own, rollout=cast(RolloutOptions, rollout))
