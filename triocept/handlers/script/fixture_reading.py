"""Reader of aimock's fixture files: returns fixtures, or raises with the place of an invalid or unsupported part."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from ..._util.documents import Node
from . import fixture_forms as forms
from .fixture_answers import read_answer, read_error
from .fixture_match import hides
from .fixtures import Fixture, Fixtures, ScriptWarning, VectorsLeft
from .form_reading import read_form

_CONFIGURED = ("llm", "mcp", "a2a", "agui", "vector")


def is_fixture_file(document: Node) -> bool:
    """Return True if the document is a file of aimock; its configurations count, and are rejected later."""
    inner = document.value
    return isinstance(inner, dict) and ("fixtures" in inner or any(name in inner for name in _CONFIGURED))


def read_fixtures(document: Node) -> Fixtures:
    """Return the fixtures of a file that answer conversations.

    Warns:
        ScriptWarning: fixtures of embeddings, an unsupported part of an answer, a fixture that is never reached.

    Raises:
        DialectError: a part is not a fixture, or is not supported.
    """
    left_out: Counter[str] = Counter()
    found = [_read_entry(node, left_out) for node in _entries(document)]
    fixtures = tuple([each for each in found if isinstance(each, Fixture)])
    if vectors := len(found) - len(fixtures):
        what = "1 fixture is" if vectors == 1 else f"{vectors} fixtures are"
        told = f"{what} of embeddings: serve_endpoint(embed=read_embeddings(…)) gives those"
        _warn(document, told, VectorsLeft)
    if left_out:
        names = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in left_out.items())
        _warn(document, f"left out of what is answered, since it has no place here: {names}")
    for before, fixture in combinations(fixtures, 2):
        if hides(before.match, fixture.match):
            why = f"{before.place} matches all that it does, and is first"
            _warn(document, f"{fixture.place} is never reached: {why}")
    return Fixtures(fixtures)


@dataclass(frozen=True)
class Vectors:
    """A fixture of an embedding: texts that contain `part` get `vector`."""

    part: str
    vector: tuple[float, ...]


def read_vectors(document: Node) -> list[Vectors]:
    """Return the embeddings in a file of fixtures; errors as in `read_fixtures`."""
    found = [_read_entry(node, Counter()) for node in _entries(document)]
    return [each for each in found if isinstance(each, Vectors)]


def _entries(document: Node) -> list[Node]:
    inner = document.value
    if "fixtures" not in inner:
        name = next(name for name in _CONFIGURED if name in inner)
        raise document.error(
            f"a configuration of aimock ({name!r}): what a model says is in the file that llm.fixtures names there"
        )
    known = {name: node for name, node in inner.items() if name not in ("$comment", "$schema")}
    plain = Node(document.file, document.line, document.path, known)
    read_form(plain, forms.FixtureFile)
    entries: list[Node] = inner["fixtures"].items()
    return entries


def _warn(document: Node, what: str, kind: type[ScriptWarning] = ScriptWarning) -> None:
    warnings.warn(f"{document.file}: {what}", kind, stacklevel=4)


def _read_entry(node: Node, left_out: Counter[str]) -> Fixture | Vectors:
    entry = read_form(node, forms.EntryForm, forms.NESTED)
    response, match = node.value["response"], node.value["match"]
    if not isinstance(response.value, dict) or not response.value:
        raise response.error("a response is a mapping that says something")
    if media := [name for name in forms.MEDIA if name in response.value]:
        raise response.value[media[0]].error(
            f"{media[0]!r} is of an endpoint that is not served here: only conversations and embeddings are"
        )
    _check_options(node, entry)
    if "embedding" in response.value:
        vector = read_form(response, forms.EmbeddingForm).embedding
        return Vectors(entry.match.inputText or "", tuple(vector))
    _check_match(match, entry.match)
    reply = read_error(response) if "error" in response.value else read_answer(response, entry, left_out)
    return Fixture(match=entry.match, reply=reply, place=node.place)


def _check_options(node: Node, entry: forms.EntryForm) -> None:
    inner = node.value
    for name in ("truncateAfterChunks", "disconnectAfterMs"):
        if getattr(entry, name) is not None:
            raise inner[name].error(f"{name!r} has no place here: a Fault in a script cuts streams")
    if entry.chaos is not None:
        raise inner["chaos"].error("'chaos' has no place here: handlers.chaos goes round any handler")


def _check_match(node: Node, match: forms.MatchForm) -> None:
    inner = node.value
    if "inputText" in inner:
        raise inner["inputText"].error("'inputText' is of embeddings, and this answers none")
    if "context" in inner:
        raise inner["context"].error("'context' has no place here: each rollout has a script of its own")
    if match.endpoint not in ("chat", forms.MatchForm().endpoint):
        raise inner["endpoint"].error(f"the endpoint {match.endpoint!r} is not served here")
