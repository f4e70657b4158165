"""How Sphinx builds these pages. A warning is an error: `nox -s docs`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import zlib
from importlib import import_module, metadata
from pathlib import Path
from tempfile import mkdtemp

import triocept
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

project = "triocept"
author = "The triocept developers"
copyright = author
try:
    release = metadata.version("triocept")
except metadata.PackageNotFoundError:  # built from a checkout that is not installed
    release = ""

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
copybutton_exclude = ".linenos, .gp, .go"
exclude_patterns = ["_build"]
nitpicky = True
# Type variables, and types of packages that a program need not have.
nitpick_ignore_regex = [
    ("py:class|py:obj", r"(triocept\..*\.)?(T|Task|Co|Contra|Asked)"),
    ("py:class", "(Async)?(OpenAI|Anthropic)"),
    # `Literal["raise", "move"]`, which the text of `serve_endpoint` describes.
    ("py:class", "OnLostURL"),
]

PYTHON = {
    "array": "array",
    "collections.abc": (
        "AsyncIterable AsyncIterator Awaitable Callable Collection Generator Iterable Iterator Mapping Sequence"
    ),
    "contextlib": "AbstractAsyncContextManager AbstractContextManager",
    "datetime": "datetime timedelta",
    "os": "PathLike",
    "pathlib": "Path",
    "re": "Pattern",
    "socket": "gaierror",
    "ssl": "SSLContext",
    "types": "EllipsisType",
}
TRIO = {
    "reference-core": "TaskStatus",
    "reference-io": "ClosedResourceError",
}


def write_inventory(name: str, links: dict[str, str]) -> str:
    """Write the inventory of another project's documentation, and return its path: a build needs no network."""
    path = Path(mkdtemp(), f"{name}.inv")
    lines = "".join(f"{target} py:class 1 {page} -\n" for target, page in links.items())
    head = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n# zlib\n"
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))
    return str(path)


intersphinx_mapping = {
    "python": (
        "https://docs.python.org/3",
        write_inventory(
            "python",
            {
                shown: f"library/{module}.html#{module}.{name}"
                for module, names in PYTHON.items()
                for name in names.split()
                for shown in (f"{module}.{name}", name)
            },
        ),
    ),
    "trio": (
        "https://trio.readthedocs.io/en/stable",
        write_inventory(
            "trio",
            {
                f"trio.{name}": f"{page}.html#trio.{name}"
                for page, names in TRIO.items()
                for name in names.split()
            },
        ),
    ),
}

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

# The docstrings write `code` with one backtick, as their readers do.
default_role = "literal"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Shown by their names, not by what they stand for.
autodoc_type_aliases = {
    "Event": "triocept.types.Event",
    "Handler": "triocept.Handler",
    "StopReason": "triocept.types.StopReason",
    "TLS": "triocept.types.TLS",
}

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"triocept {release}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}


MARKS = re.compile(r"^(Cancellation|Closing): ")


def polish(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make our docstrings Sphinx's.

    * napoleon reads `Bytes: a cap`, under a field or under `Returns:`, as a type and a
      text. An empty comment, or an empty type, keeps the colon.
    * An indented block after a colon and an empty line is code.
    * What is said of cancellation and of closing is marked.
    """
    lines[:] = [MARKS.sub(r"**\1:** ", line) for line in lines]
    for number, (line, second, third) in enumerate(zip(lines, lines[1:], lines[2:])):
        deeper = line[: len(line) - len(line.lstrip())] + "    "
        if line.endswith(":") and not second and third.startswith(deeper):
            lines[number] = line.rstrip(":") + "::"
        if line.strip() == "Returns:":
            lines[number + 1] = re.sub(r"^(\s*)(?!:)", r"\1: ", second)
    if what in ("attribute", "data", "property") and lines:
        lines[:0] = ["..", ""]


ALIAS = re.compile(r"TypeAliasForwardRef\('triocept(?:\.\w+)*?\.(\w+)'\)")


DEFAULT = re.compile(r"<function \w+>|<factory>|\bEllipsis\b")


def is_field(name: str) -> bool:
    """Return True for a field of a dataclass of triocept: its default may be a function, and is no method."""
    module, _, rest = name.rpartition(".")
    package, _, kind = module.rpartition(".")
    owner = getattr(sys.modules.get(package), kind, None)
    return dataclasses.is_dataclass(owner) and rest in owner.__dataclass_fields__


def name_aliases(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Make signatures readable.

    * Sphinx 9 shows `Handler | None` by a class of its own.
    * Sphinx takes the default of a field for a method, and its first argument for `self`.
    * A default that cannot be written is replaced by `...`.
    """
    if what == "method" and is_field(name) and inspect.isfunction(obj):
        # the types of the default itself: those of the field say no names
        shown = inspect.signature(obj)
        signature = stringify_signature(
            shown, show_return_annotation=False, unqualified_typehints=True
        )
        gives = shown.return_annotation
        returns = (
            None if gives is inspect.Signature.empty else str(gives)
        )  # a lambda has none
    if signature is not None:
        signature = DEFAULT.sub("...", signature)
    signature, returns = (
        text and ALIAS.sub(r"\1", text) for text in (signature, returns)
    )
    return signature, returns


PACKAGE = Path(triocept.__file__).parent
MODULES = [
    "triocept",
    *(f"triocept.{path.stem}" for path in PACKAGE.glob("[a-z]*.py")),
    *(f"triocept.{path.parent.name}" for path in PACKAGE.glob("[a-z]*/__init__.py")),
    "triocept.dialects.kit",
]


def entries(env: BuildEnvironment) -> dict[str, tuple[str, ObjectEntry]]:
    """The entries of the reference by their last name, each with its full name."""
    return {
        name.rpartition(".")[2]: (name, entry)
        for name, entry in sorted(
            env.domains["py"].objects.items(), key=lambda item: item[1].aliased
        )
        if name.startswith("triocept.")
    }


def find_alias(
    app: Sphinx,
    env: BuildEnvironment,
    node: pending_xref,
    content: nodes.TextElement,
) -> nodes.Element | None:
    """Link a name in an annotation: an alias is no class, and a class may stand in a private module."""
    found = entries(env).get(node.get("reftarget", "").rpartition(".")[2])
    if found is None:
        return None
    name, entry = found
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, content, name
    )


def check_entries(app: Sphinx, failure: Exception | None) -> None:
    """Warn of each public name that the reference leaves out."""
    known = entries(app.env)
    for module in map(import_module, MODULES):
        for name in module.__all__:
            if name not in known and not inspect.ismodule(getattr(module, name)):
                logger.warning(
                    "%s.%s has no entry in docs/reference", module.__name__, name
                )


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", find_alias)
    app.connect("build-finished", check_entries)
    # napoleon works at 500
    app.connect("autodoc-process-docstring", polish, priority=400)
    app.connect("autodoc-process-signature", name_aliases)
