"""Read tasks from promptfoo's configuration (YAML). Each pair of a prompt and a test becomes a task.

Assertions that compare the answer with one text (`equals`, `contains`, `icontains` and `regex`) become the target. All
assertions are kept in the metadata, with the test's description. If variables in `vars` are lists, there is a task for
each combination of their values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from ..._util.documents import read_yaml
from ...errors import DialectError
from .reading import BadTasks

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_TARGETS = ("equals", "contains", "icontains", "regex")


def read(path: Path) -> Iterator[tuple[str, object]]:
    try:
        node = read_yaml(path.read_text(), str(path), aliases=True)
    except DialectError as exc:
        raise BadTasks(str(exc)) from None
    config = node.json
    if not isinstance(config, dict) or not isinstance(config.get("tests"), list):
        raise BadTasks(f"{path}: it is not a configuration of promptfoo: it has no list of tests")
    default = config.get("defaultTest") or {}
    prompts = [_prompt(prompt, path.parent) for prompt in config.get("prompts") or ["{{prompt}}"]]
    for number, test in enumerate(config["tests"], 1):
        place = f"{node.value['tests'].value[number - 1].place}, test {number}"
        if not isinstance(test, dict):
            yield place, ValueError(f"it must be an object with vars, not {test!r:.60}")
            continue
        values = {**(default.get("vars") or {}), **(test.get("vars") or {})}
        lists = [value if isinstance(value, list) else [value] for value in values.values()]
        cases = [dict(zip(values, each, strict=True)) for each in product(*lists)]
        several = len(prompts) * len(cases) > 1
        for at, (prompt, variables) in enumerate(product(prompts, cases), 1):
            name = f"{number}.{at}" if several else str(number)
            missing = sorted({each for each in _VARIABLE.findall(prompt) if each not in variables})
            if missing:
                yield place, ValueError(f"its vars do not contain {missing[0]!r}, which the prompt uses")
            elif "{%" in prompt:
                yield place, ValueError("statements of Nunjucks ({% … %}) are not supported")
            else:
                yield place, _document(name, prompt, variables, default, test, path.parent)


def _document(
    name: str,
    prompt: str,
    variables: dict[str, Any],
    default: dict[str, Any],
    test: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    texts = {each: _read(value, folder) for each, value in variables.items()}
    asserted = [*(default.get("assert") or []), *(test.get("assert") or [])]
    targets = [_filled(str(each["value"]), texts) for each in asserted if each.get("type") in _TARGETS]
    about = {"description": test["description"]} if test.get("description") else {}
    return {
        "id": name,
        "prompt": _filled(prompt, texts),
        "target": targets,
        "metadata": {**about, **(test.get("metadata") or {}), "vars": variables, "assert": asserted},
    }


def _prompt(prompt: object, folder: Path) -> str:
    if isinstance(prompt, dict):
        prompt = prompt.get("raw", prompt.get("id", ""))
    return _read(prompt, folder)


def _read(value: object, folder: Path) -> str:
    text = str(value)
    return (folder / text.removeprefix("file://")).read_text() if text.startswith("file://") else text


def _filled(text: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text)
