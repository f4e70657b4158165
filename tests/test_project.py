"""What the project's own files say of each other is so: a session, a Python or a page that one names, another has."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.packages import NPM_PINS, wanted
from tests.real_sdks.conftest import NPM_PACKAGES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOXFILE = (ROOT / "noxfile.py").read_text()
WORKFLOW, SCHEDULED = (
    (ROOT / ".github" / "workflows" / name).read_text() for name in ("ci.yml", "newest.yml")
)
SESSIONS = set(re.findall(r"^@nox\.session.*\ndef (\w+)", NOXFILE, re.MULTILINE))
PROMISED = re.findall(r"Programming Language :: Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M)
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md"]


def test_the_pages_name_every_session_of_nox_that_is_run_by_name() -> None:
    """`types` and `pythons` are parts of plain nox, which is named as a whole."""
    pages = ((ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md"))
    told = {name for page in pages for name in re.findall(r"`nox -s ([a-z_]+)", page)}
    assert SESSIONS - told == {"types", "pythons"}
    assert told - SESSIONS == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_session_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"`nox -s ([\w .-]+?)(?: --.*?)?`", (ROOT / page).read_text())
    assert {word.removesuffix("-3.13") for words in named for word in words.split()} <= SESSIONS


def test_the_workflow_runs_sessions_that_are_there_and_every_python_that_is_promised() -> None:
    listed = re.search(r"sessions:\n((?: +- .*\n)+)", WORKFLOW)
    words = re.sub(r"#.*|-", "", listed[1]).split()
    assert set(words) <= SESSIONS
    assert re.findall(r'"(3\.\d+)"', WORKFLOW) == PROMISED


def test_the_newest_packages_are_tried_each_week_on_every_python_that_is_promised() -> None:
    assert re.search(r'schedule:\n    - cron: "\d+ \d+ \* \* \d"', SCHEDULED)
    assert re.findall(r"^ +(3\.\d+)$", SCHEDULED, re.MULTILINE) == PROMISED
    assert "run: nox -s newest\n" in SCHEDULED


def pins(file: str) -> dict[str, str]:
    """The versions in a file of constraints."""
    lines = (ROOT / "constraints" / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_each_python_that_is_promised_has_constraints_which_name_no_place() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "constraints").iterdir()}
    assert set(files) == {f"{version}.txt" for version in PROMISED} | {"npm.txt"}
    for name, text in files.items():
        line = r"(@[\w.-]+/)?[\w.-]+@[\w.-]+" if name == "npm.txt" else r"[\w.-]+==[\w.-]+"
        assert [each for each in text.splitlines() if not re.fullmatch(rf"{line}|#.*", each)] == [], name
        assert "//" not in text, name


@pytest.mark.parametrize("version", PROMISED)
def test_what_plain_nox_installs_is_pinned_within_its_bounds(version: str) -> None:
    """A dependency that was added, or whose bounds were changed, wants `nox -s lock`."""
    pinned = pins(f"{version}.txt")
    for line in wanted():
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), line
    assert set(NPM_PACKAGES) <= set(NPM_PINS)


def test_every_python_that_is_promised_is_one_that_nox_tests() -> None:
    tested = re.search(r"^TESTED = \((.*)\)", NOXFILE, re.MULTILINE)
    assert set(PROMISED) <= set(re.findall(r"3\.\d+", tested[1]))
    assert PROJECT["requires-python"] == f">={PROMISED[0]}"


def test_an_action_of_the_workflow_is_pinned_to_a_commit_with_its_version_beside_it() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW + SCHEDULED)
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_link_of_a_page_leads_to_a_file(page: str) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_changelog_begins_with_the_projects_version_or_that_is_of_a_later_release() -> None:
    (newest, *_) = re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version = Version(PROJECT["version"])
    assert version > Version(newest) if version.is_devrelease else version == Version(newest)
