"""The lists of modules, counts and page names in docstrings and docs are true."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.real_agents.cases import SOURCES
from triocept.agents import agent
from triocept.dialects import DIALECTS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "triocept"
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
LISTED = sorted(
    str(init.parent.relative_to(PACKAGE))
    for init in PACKAGE.glob(
        "_*/**/__init__.py"
    )  # `dialects` and `agents` say how to write one, and have no list
)
NUMBERS = [
    "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip
NUMBERS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]


def docstring(init: Path) -> str:
    return ast.get_docstring(ast.parse(init.read_text())) or ""


def modules_of(folder: Path) -> set[str]:
    """The modules and packages of a folder."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


def names(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]\w*)`", text))


@pytest.mark.parametrize("package", [*LISTED, "handlers", "exports", "testing"])
def test_a_package_lists_its_modules_and_no_others(package: str) -> None:
    text = docstring(PACKAGE / package / "__init__.py")
    heads = re.findall(r"^\* ((?:`\w+`(?:, )?)+):", text, re.MULTILINE)
    listed = set().union(*map(names, heads))
    assert modules_of(PACKAGE / package) - names(text) == set(), "not listed"
    assert listed - modules_of(PACKAGE / package) == set(), "listed, and not there"


def test_the_docstring_of_the_layers_has_every_module_and_no_others() -> None:
    text = docstring(PACKAGE / "__init__.py")
    heads = re.findall(r"(?:^\* L\d |\. )((?:`\w+`(?:, )?)+):", text, re.MULTILINE)
    assert modules_of(PACKAGE) - names(text) == set(), "not listed"
    assert names(" ".join(heads)) - modules_of(PACKAGE) == set(), "listed, and not there"


def test_the_page_of_the_architecture_has_every_module_and_no_others() -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text()
    assert names(" ".join(re.findall(r"^\| (?:L\d)? *\| (.*?) \|", page, re.MULTILINE))) == modules_of(
        PACKAGE
    )


def imported_at_once(module: Path) -> set[str]:
    """The modules of ours that a module imports where it begins; not those of its types alone."""
    package = ("triocept", *module.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            found |= {".".join(filter(None, [*base, alias.name])) for alias in node.names}
            found.add(".".join(filter(None, base)))
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    """What belongs to types alone is not counted: public types name each other."""
    modules = {
        ".".join(("triocept", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    edges = {name: imported_at_once(path) & modules.keys() for name, path in modules.items()}
    assert circle_in(edges) == []


def circle_in(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, around; empty: none do."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []


def test_few_things_reach_behind_an_underscore_of_another_module() -> None:
    """Ours: of hypercorn and prime-tunnel some have no other way."""
    reached = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        own = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in ("self", "cls")
        } | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        reached += [
            f"{path.relative_to(PACKAGE)}:{node.lineno} {node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and re.match(r"_[a-z]", node.attr)
            and getattr(node.value, "id", None) not in ("self", "cls", "os")
            and node.attr not in own
        ]
    assert len(reached) < 20, reached


def test_the_glossary_names_every_dialect() -> None:
    entry = re.search(r"^dialect\n(.*?)\n\n", (DOCS / "glossary.md").read_text(), re.MULTILINE | re.DOTALL)
    assert names(entry[1]) == set(DIALECTS)


PROVIDERS = {name.partition("_")[0] for name in DIALECTS}
"""The first words of the dialects' names: nobody misses a whole one."""


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/how-to/forward.md"])
def test_a_page_that_lists_what_is_spoken_leaves_no_provider_out(page: str) -> None:
    text = (ROOT / page).read_text().lower().replace("google", "gemini")
    assert [name for name in PROVIDERS if name not in text] == []


def test_the_page_of_the_environment_has_every_variable_of_a_dialect() -> None:
    page = (DOCS / "how-to" / "run-an-agent.md").read_text()
    told = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    made = [dialect.environment("u", "k", "m") for dialect in DIALECTS.values() if dialect.environment]
    assert {name for variables in made for name in variables} - told == set()


def test_the_page_of_the_log_has_every_logger() -> None:
    page = (DOCS / "how-to" / "live-with-trio.md").read_text()
    used = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r'getLogger\("(triocept\.\w+)"\)', path.read_text())
    }
    assert set(re.findall(r"^\| `(triocept\.\w+)` \|", page, re.MULTILINE)) == used


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/run-an-agent.md"])
def test_known_agents_are_counted_right(page: str) -> None:
    (count,) = re.findall(r"\b(\w+) agents(?: for a rollout| are tested)", (ROOT / page).read_text())
    assert NUMBERS.index(count.lower()) == len(SOURCES)


def test_the_readme_names_every_agent_that_is_tried() -> None:
    spoken = README.lower().replace(" ", "_").replace("-", "_")
    assert [name for name in SOURCES if name not in spoken] == []


def test_the_reference_has_every_known_agent_in_the_version_that_is_tested() -> None:
    page = (DOCS / "reference" / "agents.md").read_text()
    for name, source in SOURCES.items():
        assert agent(name)
        assert f".. autofunction:: triocept.agents.{name}\n" in page
        assert re.search(
            rf"^\| .* \| {re.escape(source.version)} \| .*`{re.escape(source.package)}`", page, re.M
        )


def test_a_page_that_is_named_is_there() -> None:
    folders = [ROOT / name for name in ("triocept", "tests", "bench", "docs", "newsfragments")]
    pages = {
        path.name
        for folder in [ROOT, *folders]
        for path in folder.glob("**/*.md" if folder != ROOT else "*.md")
    }
    recorded = ROOT / "tests" / "recording"  # words of agents
    for path in [ROOT / "noxfile.py", *(path for folder in folders for path in folder.rglob("*.py"))]:
        if path.is_relative_to(recorded):
            continue
        named = {Path(name).name for name in re.findall(r"[\w./-]+\.md\b", path.read_text())}
        assert named <= pages, f"{path.relative_to(ROOT)}: {named - pages}"
