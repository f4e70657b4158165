"""Directories of a record are those of now, on the way in and on the way out."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocept._recording.volatile import MASK, mask_of, roots_of, slug, translation
from triocept.traces import AgentStart

NAMES = st.text(string.ascii_lowercase + ".0", min_size=1, max_size=6).filter(lambda name: name.strip("."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
TEXTS = st.text(string.ascii_lowercase + "/ .'", max_size=10)


@given(PATHS, PATHS, st.lists(TEXTS, min_size=2, max_size=4))
def test_what_is_translated_is_masked_as_what_was_recorded(before: str, now: str, texts: list[str]) -> None:
    """What a model said of a directory comes back with the next call."""
    told = f" {before}/f ".join(texts)
    there = translation([{"cwd": before}], [{"cwd": now}], {})(told)
    assert mask_of([{"cwd": now}])(there).count(MASK) >= mask_of([{"cwd": before}])(told).count(MASK)


def test_the_longest_goes_first_and_only_whole_names_are_meant() -> None:
    moved = translation([{"cwd": "/h/u/work", "home": "/h/u"}], [{"cwd": "/w", "home": "/root"}], {})
    told = "/h/u/work/a /h/u/.bashrc /h/u/work2 /h/u2 x/h/u 'cd /h/u/work'; -h-u-work -h-u"
    assert moved(told) == "/w/a /root/.bashrc /root/work2 /h/u2 x/h/u 'cd /w'; -w -root"


def test_several_agents_have_their_own() -> None:
    recorded = [{"cwd": "/a"}, {"cwd": "/b", "config": "/b/c"}]
    moved = translation(recorded, [{"cwd": "/1"}, {"cwd": "/2", "config": "/3"}], {})
    assert moved("/a /b /b/c/x") == "/1 /2 /3/x"


def test_a_directory_may_be_told_as_it_is_spelt_or_without_dots_and_links(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    (tmp_path / "work").mkdir()
    home = f"{tmp_path}/work/../link"
    spelt = roots_of([AgentStart(rollout="r", argv=(), started_at=0, cwd=f"{tmp_path}/work", home=home)])
    told = f"{home}/.claude {tmp_path}/home/.claude {tmp_path}/work/a"
    assert mask_of(spelt)(told) == f"{MASK}/.claude {MASK}/.claude {MASK}/a"
    live = roots_of([AgentStart(rollout="r", argv=(), started_at=0, cwd="/w", home="/h")])
    assert translation(spelt, live, {})(told) == "/h/.claude /h/.claude /w/a"


def test_what_the_program_says_wins() -> None:
    assert translation([{"cwd": "/a"}], [{"cwd": "/1"}], {"/a/": "/mine/"})("/a/x") == "/mine/x"


@pytest.mark.parametrize("text", ["", "nothing of it", "/a"])
def test_without_any_nothing_is_touched(text: str) -> None:
    assert translation([], [], {})(text) == mask_of([])(text) == text
    assert translation([{"cwd": "/a"}], [{"cwd": "/a"}], {})(text) == text


def test_a_slug_is_a_name_of_one_file() -> None:
    assert slug("/home/u/my.work") == "-home-u-my-work"
