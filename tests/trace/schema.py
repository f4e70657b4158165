"""`python -m tests.trace.schema`: write the JSON Schema of a trace file's lines anew, from their types."""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from triocept._trace.lines import Line

PATH = Path(__file__).parents[2] / "docs" / "reference" / "trace-line.schema.json"


def schema() -> str:
    """The schema of a line, as it stands in the docs."""
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of a triocept trace file, format 2",
        **msgspec.json.schema(Line),
    }
    for each in document["$defs"].values():
        each["description"] = cleandoc(each["description"])  # as Python 3.13 has it from the beginning
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema())
