"""A file that people write: what is in it, and on which line; one reader for scripts and for cassettes."""

from pathlib import Path

import pytest
import yaml

from triocept._util.documents import read_yaml
from triocept.errors import DialectError
from triocept.handlers import read_script

QUESTION = "- {when: {text: Why?}, reply: Because.}\n"


def test_words_are_those_of_yaml_1_2() -> None:
    text = "[true, True, FALSE, null, ~, no, on, 1, +2, -3, 0.5, .5, 1e3, 0x1f, 12:30, 2026-11-27, '1', .inf]"
    assert read_yaml(text, "a").json == [
        *(True, True, False, None, None, "no", "on", 1, 2, -3, 0.5, 0.5, 1000.0),
        *("0x1f", "12:30", "2026-11-27", "1", ".inf"),
    ]


@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="this PyYAML has no parser in C")
def test_a_question_mark_without_quotes_is_read_within_braces(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(QUESTION)
    (rule,) = read_script(tmp_path / "s.yaml")
    assert rule.conditions.text == "Why?"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [QUESTION, "- [why?, how]", "- {text: What is it? Say}"])
def test_where_pyyaml_cannot_read_it_the_error_says_the_line_and_to_quote_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    with pytest.raises(
        DialectError, match=r"^s.yaml:2: this is not YAML: .*'\?'; put a text with .* in quotes$"
    ):
        read_yaml(f"- a\n{text}", "s.yaml")


@pytest.mark.parametrize(
    "text", ["- {text: a: b}", "- text: @a", "- text: `a`", "- text: a: b", "- text: %a"]
)
@pytest.mark.parametrize("loader", ["in C", "in Python"])
def test_what_has_to_be_quoted_is_told_so(text: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loader == "in Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    with pytest.raises(DialectError, match=r"^s.yaml:2: this is not YAML: .*in quotes$"):
        read_yaml(f"- a\n{text}", "s.yaml")


def test_an_alias_is_what_its_anchor_is_where_that_is_allowed(tmp_path: Path) -> None:
    text = "- when: &all {text: a}\n  reply: &say x\n- when: {system: s}\n  reply: *say\n"
    found = read_yaml(text, "s.yaml", aliases=True)
    assert found.json[1]["reply"] == "x"
    assert found.value[1].value["reply"].line == 4
    with pytest.raises(
        DialectError, match=r"^s.yaml:1: \[0\].when: anchors and aliases are not allowed here$"
    ):
        read_yaml(text, "s.yaml")


def test_aliases_cannot_make_a_few_lines_more_than_a_machine_holds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(DialectError, match=r"^s.yaml:6: a5\[7\]: the file has more than 1000000 values"):
        read_yaml("\n".join(lines), "s.yaml", aliases=True)
