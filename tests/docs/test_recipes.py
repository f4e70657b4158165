"""The workflows on the page about CI, which no test runs: what they must and must not have."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TESTS, RECORD = ((EXAMPLES / name).read_text() for name in ("tests.yml", "record.yml"))
EACH = pytest.mark.parametrize("workflow", [TESTS, RECORD], ids=["tests", "record"])
USES = re.compile(r"uses: (.*)")


@EACH
def test_a_workflow_pins_its_actions_as_our_own_does(workflow: str) -> None:
    ours = dict(use.split("@") for use in USES.findall((ROOT / ".github/workflows/ci.yml").read_text()))
    for action, version in (use.split("@") for use in USES.findall(workflow)):
        assert re.fullmatch(r"[0-9a-f]{40} # v[\d.]+", version), action
        assert ours.get(action, version) == version, action


@EACH
def test_a_workflow_may_not_write_and_leaves_no_credentials(workflow: str) -> None:
    assert "permissions:\n  contents: read\n" in workflow
    assert "persist-credentials: false" in workflow
    assert "write" not in re.sub(r"rewrite", "", workflow)


def test_what_runs_on_a_pull_request_has_no_secret_and_records_nothing() -> None:
    assert "pull_request" in TESTS
    assert "secrets." not in TESTS
    assert re.findall(r"--triocept-record=(\w+)", TESTS) == ["none"]


def test_what_has_the_secret_is_started_by_hand_and_caches_nothing() -> None:
    assert re.search(r"^on: workflow_dispatch\b", RECORD, re.MULTILINE)
    assert "cache:" not in RECORD
    assert re.findall(r"secrets\.(\w+)", RECORD) == ["OPENAI_API_KEY"]


def test_no_workflow_is_left_off_the_page() -> None:
    page = (ROOT / "docs" / "how-to" / "ci.md").read_text()
    assert {path.name for path in EXAMPLES.glob("*.yml")} == set(re.findall(r"examples/(\w+\.yml)", page))


def test_every_other_language_is_on_its_page() -> None:
    page = (ROOT / "docs" / "how-to" / "other-languages.md").read_text()
    there = {path.name for path in (EXAMPLES / "other_languages").iterdir() if path.is_file()}
    assert there == set(re.findall(r"examples/other_languages/([\w.]+\w)", page))


def test_every_example_for_trainers_is_on_its_page() -> None:
    """They are run by `nox -s trainers`."""
    page = (ROOT / "docs" / "how-to" / "trainers.md").read_text()
    there = {path.name for path in (EXAMPLES / "trainers").iterdir() if path.is_file()}
    assert there == set(re.findall(r"examples/trainers/([\w.]+\w)", page))
