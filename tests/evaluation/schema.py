"""`python -m tests.evaluation.schema`: write the JSON Schema of a task anew, from its type."""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from triocept.evaluation import Task

PATH = Path(__file__).parents[2] / "docs" / "reference" / "task.schema.json"


def schema() -> str:
    """The schema of a task in a file, as it stands in the docs."""
    (task,) = msgspec.json.schema(Task)["$defs"].values()
    properties: dict[str, Any] = task["properties"]
    prompt = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
    properties |= {"prompt": prompt, "input": prompt, "id": {"type": ["string", "integer"]}}
    properties["target"] = {"anyOf": [*properties["target"]["anyOf"], {"type": "number"}]}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A task of a triocept evaluation",
        **task,
        "description": cleandoc(task["description"]),
        "anyOf": [{"required": ["prompt"]}, {"required": ["input"]}],
    }
    del document["required"]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema())
