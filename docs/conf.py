"""How Sphinx builds these pages. A warning is an error: `nox -s docs`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from importlib import metadata

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

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
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
copybutton_exclude = ".linenos, .gp, .go"
exclude_patterns = ["_build"]
nitpicky = False

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
    """Whether it is a field of one of our dataclasses: a function in one is no method."""
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
    * It takes the default of a field for a method, and its first argument for `self`.
    * What is put in for a default that cannot be written is `…`.
    """
    if what == "method" and is_field(name) and inspect.isfunction(obj):
        # the types of the default itself: those of the field say no names
        shown = inspect.signature(obj)
        signature = stringify_signature(
            shown, show_return_annotation=False, unqualified_typehints=True
        )
        returns = str(shown.return_annotation)
    if signature is not None:
        signature = DEFAULT.sub("...", signature)
    signature, returns = (
        text and ALIAS.sub(r"\1", text) for text in (signature, returns)
    )
    return signature, returns


def setup(app: Sphinx) -> None:
    # napoleon works at 500
    app.connect("autodoc-process-docstring", polish, priority=400)
    app.connect("autodoc-process-signature", name_aliases)
