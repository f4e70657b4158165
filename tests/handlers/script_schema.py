"""`python -m tests.handlers.script_schema`: write the JSON Schema of a script's file anew, from its forms."""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from triocept.handlers.script import forms

PATH = Path(__file__).parents[2] / "docs" / "reference" / "script.schema.json"


def schema() -> str:
    """The schema of a script, as it stands in the docs."""
    used = [*forms.ITEMS, forms.CycleForm, forms.FileForm]
    _, defined = msgspec.json.schema_components(used, ref_template="#/$defs/{name}")
    defined["RuleForm"]["oneOf"] = [{"required": [name]} for name in forms.SAYS]
    defined["WhenForm"]["minProperties"] = 1
    script = {"type": "array", "items": ref("Item")}
    defined["FileForm"]["properties"]["script"] = script
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A script of triocept",
        "anyOf": [script, ref("FileForm")],
        "$defs": {
            "Item": {"anyOf": [ref("Step"), ref("RuleForm"), ref("OtherwiseForm")]},
            "Step": {"anyOf": [ref("Pause"), ref("Reply")]},
            "Pause": {"description": "Seconds before the next reply.", "type": "number", "minimum": 0},
            "Reply": {"anyOf": [{"type": "string"}, parts(), named(*forms.REPLIES)]},
            "Part": {"anyOf": [{"type": "string"}, named(*forms.PARTS)]},
            **defined,
        },
    }
    for each in defined.values():
        each["description"] = cleandoc(each["description"])  # as Python 3.13 has it from the beginning
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def named(*among: type) -> dict[str, Any]:
    return {"anyOf": [ref(form.__name__) for form in among]}


def parts() -> dict[str, Any]:
    return {"type": "array", "items": ref("Part"), "minItems": 1}


if __name__ == "__main__":
    PATH.write_text(schema())
