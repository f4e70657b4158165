"""Read scripts from files in Python, YAML or JSON, or from files with fixtures of aimock."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path

from ..._canonical.vectors import vector_of
from ..._rollout.embedding import Embed
from ..._util.checks import described
from ..._util.documents import Node, decoded, read_json, read_yaml
from ...errors import DialectError
from .fixture_reading import is_fixture_file, read_fixtures, read_vectors
from .model import Item
from .reading import read_items
from .replies import ReadScript


def read_script(path: str | Path) -> list[Item]:
    """Read replies and rules from a file: `ScriptedModel(read_script("script.yaml"))`.

    A Python file (`*.py`) defines the variable `replies`. A file with another suffix is JSON, or YAML if the suffix is
    `.yaml` or `.yml`. It contains a list of:

    * a text; a list of texts and tool calls, which is one response; or a number, which is a pause in seconds;
    * `{"tool": name, "arguments": {…}}`; `{"refuse": status, "message": …, "retry_after": seconds}`; `{"parts": […]}`;
      `{"template": …}`; `{"asked_json": {…}}`; `{"stream": […], "delay": …}`; `{"paced": …}`; `{"fault": …}`;
    * a rule: `{"when": {"text": …}, "reply": …}`, or `replies`, `repeat`, `cycle` instead of `reply`;
      `{"otherwise": …}`.

    The page "Answer by a script" lists all forms, and the reference has a JSON Schema. In YAML only the words `true`
    and `false` are booleans, as in YAML 1.2; all other words are texts. A file of aimock's fixtures (`{"fixtures":
    […]}`) is read, too.

    Warns: ScriptWarning: a fixture of aimock can never answer a request, or a part of a fixture is not supported.

    Raises:
        OSError: the file cannot be read.
        DialectError: the file does not contain a script. The error's text names the file, the line and the invalid
            part.
    """
    path = Path(path)
    if path.suffix == ".py":
        _check_defines(path)
        found = runpy.run_path(str(path)).get("replies")
        if not isinstance(found, (list, tuple)):
            text = f"a Python script must define a list named 'replies', not {described(found)}"
            raise DialectError(text, path=str(path))
        return ReadScript(found)
    document = read_document(path)
    return ReadScript([read_fixtures(document)] if is_fixture_file(document) else read_items(document))


def _check_defines(path: Path) -> None:
    """Raise DialectError if no line of a Python file can define `replies`, so that the file is not run.

    A program could have been passed as a script by mistake.
    """
    code = compile(path.read_bytes(), str(path), "exec")
    names = {*code.co_names, *[each for each in code.co_consts if isinstance(each, str | tuple)]}
    if names.isdisjoint({"replies", ("replies",), ("*",)}):
        raise DialectError(
            "a Python script must define a list named 'replies'; this file defines no such list",
            path=str(path),
        )


def read_embeddings(path: str | Path) -> Embed:
    """Read embeddings from aimock's fixtures: `serve_endpoint(embed=read_embeddings("fixtures.json"))`.

    If no fixture matches a text, the text gets a vector that is computed from its words.

    Raises:
        OSError, DialectError: as in `read_script`. A DialectError is also raised if the file has no embeddings.
    """
    document = read_document(Path(path))
    if not is_fixture_file(document):
        raise document.error("a file of embeddings must hold aimock fixtures, in the form {'fixtures': […]}")
    found = _embeddings(document)
    if found is None:
        raise document.error("this file contains no fixture for embeddings")
    return found


def embeddings_in(path: Path) -> Embed | None:
    """Return a function that embeds texts by the embeddings in a script's file; None if the file has no embeddings.

    Raises:
        OSError, DialectError: as in `read_script`.
    """
    if path.suffix == ".py":
        return None
    document = read_document(path)
    return _embeddings(document) if is_fixture_file(document) else None


def _embeddings(document: Node) -> Embed | None:
    """Return a function that maps a text to the vector of the first fixture whose `inputText` the text contains.

    A text without a fixture gets a vector computed from its words.
    """
    vectors = read_vectors(document)
    if not vectors:
        return None
    if len(sizes := {len(each.vector) for each in vectors}) > 1:
        raise document.error(
            f"the embeddings in this file must have the same size, but their sizes are {sorted(sizes)}"
        )

    def embed(texts: Sequence[str]) -> list[Sequence[float]]:
        size = len(vectors[0].vector)
        return [
            next((each.vector for each in vectors if each.part in text), vector_of(text, size))
            for text in texts
        ]

    return embed


def read_document(path: Path) -> Node:
    """Read a document from a file: YAML if the name ends with `.yaml` or `.yml`, otherwise JSON.

    Raises:
        OSError: the file cannot be read.
        DialectError: the content is not valid YAML or JSON. The error's text begins with the file and the line.
    """
    text = decoded(path.read_bytes(), str(path))
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_yaml(text, str(path), aliases=True)
    try:
        return read_json(text, str(path))
    except DialectError as exc:
        if path.suffix.lower() == ".json":
            raise
        problem = (
            f"{exc.problem} (the file was read as JSON, because its name does not end in .py, .yaml or .yml)"
        )
        raise DialectError(problem, path=exc.path) from None
