"""A script's file says the same as a script in Python, and what is wrong in one is told with its place."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handlers.script_schema import PATH, schema
from triocept import DialectError, Refusal, Response, ScriptedModel, ToolCall, Usage
from triocept.handlers import (
    AskedJSON,
    Conditions,
    Fault,
    Rule,
    ShadowedRule,
    Stream,
    Template,
    chaos,
    otherwise,
    paced,
    read_script,
    when,
)
from triocept.handlers.script.file import read_document
from triocept.handlers.script.reading import read_items
from triocept.types import Reasoning, RefusalText

SAME: list[tuple[str, Any]] = [
    ("- hello", "hello"),
    ("- 0.5\n- x", 0.5),
    ("- {tool: bash, arguments: {command: ls}}", ToolCall.of("bash", command="ls")),
    ("- {tool: bash, arguments: '{\"cut', id: c1}", ToolCall("bash", '{"cut', "c1")),
    ("- [Let me look., {tool: bash}]", ["Let me look.", ToolCall.of("bash")]),
    ("- {parts: [{reasoning: hm}, a], usage: {input_tokens: 3, output_tokens: 4}, stop_reason: max_tokens, id: r}",
     Response.of(Reasoning("hm"), "a", stop_reason="max_tokens")),
    ("- [{refusal: I will not.}]", [RefusalText("I will not.")]),
    ("- {template: 'You said {text}'}", Template("You said {text}")),
    ("- {asked_json: {city: Oslo}}", AskedJSON(city="Oslo")),
    ("- {stream: [a, b], delay: 1, first_after: 2}", Stream("a", "b", delay=1, first_after=2)),
    ("- {paced: hello you, characters: 2, tokens_per_second: 5}",
     paced("hello you", characters=2, tokens_per_second=5)),
    ("- {paced: {parts: [{tool: t}]}}", paced(Response.of(ToolCall("t")))),
    ("- {fault: too_large}", Fault.too_large()),
    ("- {fault: {status: 429}}", Fault.status(429)),
    ("- {fault: {status: {status: 429, retry_after: 1, headers: {a: b}}}}",
     Fault.status(429, retry_after=1, headers={"a": "b"})),
    ("- {fault: {cut_arguments: {call: {tool: t, arguments: {a: 1}}, after: 2}}}",
     Fault.cut_arguments(ToolCall.of("t", a=1), after=2)),
    ("- {when: {text: a}, reply: b}", when(text="a").reply("b")),
    ("- {when: {text: a}, replies: [0.5, b, {template: c}]}", when(text="a").reply(0.5, "b", Template("c"))),
    ("- {when: {text: a}, repeat: b}", when(text="a").repeat("b")),
    ("- {when: {text: a}, cycle: [b, c]}", when(text="a").cycle("b", "c")),
    ("- {when: {text: {regex: 'a+', ignore_case: true}}, reply: b}", when(text=re.compile("a+", re.I)).reply("b")),
    ("- {when: {system: s, model: m, tool_result: false, output: text}, reply: b}",
     when(system="s", model="m", tool_result=False, output="text").reply("b")),
    ("- {when: {tool_result: r, result_of: t, offered_tool: o}, reply: b}",
     when(tool_result="r", result_of="t", offered_tool="o").reply("b")),
    ("- {otherwise: b}", otherwise("b")),
    ("- {otherwise: {cycle: [b, c]}}", otherwise("b", "c")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), SAME, ids=[text for text, _ in SAME])
@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_a_file_says_what_python_says(kind: str, text: str, wanted: Any, tmp_path: Path) -> None:
    document = yaml.safe_load(text)
    file = tmp_path / f"s.{kind}"
    file.write_text(text if kind == "yaml" else json.dumps(document))
    first, *_ = read_script(file)
    if isinstance(first, Rule):
        assert (first.conditions, first.replies, first.endless) == (
            wanted.conditions,
            wanted.replies,
            wanted.endless,
        )
        assert first.place == f"{file}:1"
    elif isinstance(first, Response) and first.id:
        assert (first.content, first.stop_reason) == (wanted.content, wanted.stop_reason)
        assert first.usage == Usage(input_tokens=3, output_tokens=4)
    else:
        assert first == wanted
    VALIDATOR.validate(document)
    ScriptedModel(read_script(file))


def test_a_refusal_in_a_file_has_all_that_one_has(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_text(
        "- refuse: 429\n  message: no\n  retry_after: 2\n  should_retry: false\n  code: c\n  headers: {a: b}"
    )
    (refusal,) = read_script(file)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.message, refusal.retry_after) == (429, "no", 2)
    assert (refusal.should_retry, refusal.code, refusal.headers) == (False, "c", {"a": "b"})


WRONG: list[tuple[str, str]] = [
    ("- a\n- {txet: b}", r"\[1\].txet: a reply cannot have the key 'txet'; it must have one of tool"),
    ("- when:\n    txet: a\n  reply: b", r"s.yaml:2: \[0\].when.txet: .*no key 'txet' here; did you mean text\?"),
    ("- when: {text: a}\n  reply: b\n  repeat: c",
     r"s.yaml:1: \[0\]: a rule must have one of .*, but this rule has reply and repeat"),
    ("- when: {text: a}", r"s.yaml:1: \[0\]: a rule must have one of .*, but this rule has none"),
    ("- when: {}\n  reply: a", r"s.yaml:1: \[0\].when: this condition matches every request: write 'otherwise'"),
    ("- when:\n    text: 12\n  reply: a",
     r"s.yaml:2: \[0\].when.text: expected `.*`, got `int`: 12; put it in quotes"),
    ("- when:\n    text:\n      regex: '('\n  reply: a",
     r"s.yaml:3: \[0\].when.text.regex: this is not a regular expression"),
    ("- when:\n    text: {regx: a}\n  reply: b", r"s.yaml:2: \[0\].when.text.*regex"),
    ("- when: {text: ''}\n  reply: b", r"s.yaml:1: \[0\].when: when: text must not be empty"),
    ("- when: {text: a}\n  replies: []", r"s.yaml:2: \[0\].replies: expected `array` of length >= 1"),
    ("- when: {text: a}\n  replies: [a, 1]", r"s.yaml:2: \[0\].replies: replies must end with a reply"),
    ("- when: {text: a}\n  reply: 1", r"s.yaml:2: \[0\].reply: this is not a reply: 1"),
    ("- refuse: 200", r"s.yaml:1: \[0\]: the status of a refusal must be 400 to 599, not 200"),
    ("- refuse: 429\n  should_retry: no", r"s.yaml:2: \[0\].should_retry: .*'no'; write true or false"),
    ("- refuse: 429\n  message: 3",
     r"s.yaml:2: \[0\].message: expected `str`, got `int`: 3; put it in quotes to make it a text"),
    ("- refuse: 429\n  retry_atfer: 3",
     r"s.yaml:2: \[0\].retry_atfer: there is no key 'retry_atfer' here; did you mean retry_after\?"),
    ("- tool: t\n  arguments: [1]", r"s.yaml:2: \[0\].arguments: expected"),
    ("- a\n-\n  - b\n  - {txet: c}", r"s.yaml:4: \[1\]\[1\].txet: a part of an answer cannot have the key"),
    ("- parts: [a]\n  usage:\n    input_tokens: 1\n    output_tokens: -1",
     r"s.yaml:4: \[0\].usage.output_tokens:"),
    ("- parts: [a]\n  usage:\n    input_tokens: 1",
     r"s.yaml:2: \[0\].usage: .*missing required field `output_tokens`"),
    ("- template: '{txet}'", r"s.yaml:1: \[0\]: .*braces must contain one of"),
    ("- parts: [a]\n  stop_reason: tool", r"s.yaml:2: \[0\].stop_reason: .*'tool'; did you mean tool_use\?"),
    ("- parts: [a]\n  stop_reason: qq",
     r"s.yaml:2: \[0\].stop_reason: there is no value 'qq'; choose one of end, .*tool_use"),
    ("- stream: []", r"s.yaml:1: \[0\].stream: expected `array` of length >= 1"),
    ("- stream: [a]\n  delay: -1", r"s.yaml:2: \[0\].delay: expected `float` >= 0"),
    ("- paced: {refuse: 429}", r"s.yaml:1: \[0\].paced: only an answer of the model can be paced"),
    ("- fault: rest", r"s.yaml:1: \[0\].fault: there is no fault 'rest'"),
    ("- fault:\n    status: {satus: 429}", r"s.yaml:2: \[0\].fault.status: .*satus"),
    ("- fault: {status: 200}", r"s.yaml:1: \[0\].fault.status: .*200"),
    ("- true", r"s.yaml:1: \[0\]: this is not a reply: True"),
    ("- text: hi", r"s.yaml:1: \[0\].text: a reply cannot have .*; write the value of 'text' alone, as the item"),
    ("- reply: hi", r"s.yaml:1: \[0\].reply: .*; write the value of 'reply' alone, as the item"),
    ("replies: [hi]", "s.yaml:1: a script must be a list of replies, or .*, not dict: {'replies': "),
    ("-\n- a", r"s.yaml:1: \[0\]: this is not a reply: None"),
    ("- []", r"s.yaml:1: \[0\]: this is not a reply: \[\]"),
    ("- -1\n- a", r"s.yaml:1: \[0\]: this item, a pause, must be 0 or more"),
    ("a: 1", "s.yaml:1: a script must be a list of replies, or a mapping with the list under 'script'"),
    ("script: []\na: 1", r"s.yaml:2: a: there is no key 'a' here; choose one of script, \$schema"),
    ("script: a", r"s.yaml:1: script: expected `array`"),
    ("", r"s.yaml:1: the file contains no reply: write a list of replies"),
    ("- a\n- 'b", r"s.yaml:2: this is not YAML: while scanning a quoted scalar"),
    ("- a\n---\n- b", r"s.yaml:2: a second YAML document begins here"),
    ("- {tool: t, tool: u}", r"s.yaml:1: \[0\].tool: 'tool' is defined twice: first on line 1"),
    ("- {429: a}", r"s.yaml:1: \[0\]: a key must be a text; to make '429' a text, put it in quotes"),
    ("- !!python/object:os.system ls", r"s.yaml:1: \[0\]: a tag \(.*system\) is not allowed here"),
    ("- !!int x", r"s.yaml:1: \[0\]: a tag .* is not allowed here"),
    ("&a [*a]", r"s.yaml:1: \[0\]: the alias `\*a` refers to no value: no value with the anchor `&a`"),
    ("- <<: {tool: t}", r"cannot have the key '<<'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_in_a_file_is_told_with_file_line_and_key(
    text: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(DialectError, match=words):
        read_script(file)


@pytest.mark.parametrize(("text", "words"), [
    ('[\n"a",\n{"txet": 1}]', r"s.json:3: \[1\].txet: a reply cannot have the key"),
    ('[{"tool": "t",\n"tool": "u"}]', r"s.json:2: \[0\].tool: 'tool' is defined twice: first on line 1"),
    ('["a",\n]', r"s.json:[12]: this is not JSON"),
    ("[NaN]", "s.json: this is not JSON: JSON has no NaN"),
    ("[" * 100_000, "s.json"),
    ("[" * 5000 + "]" * 5000, r"s.json:1: the document is nested too deeply"),
    ("[" * 100 + "]" * 100, r"s.json:1: \[0\]\[0\]: this is not a part of an answer"),
    ("", "s.json:1: this is not JSON"),
    ('{"script": [{"when": {"text": "a"},\n "reply": true}]}',
     r"s.json:2: script\[0\].reply: this is not a reply: True"),
])  # fmt: skip
def test_json_has_its_lines_too(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(text)
    with pytest.raises(DialectError, match=words):
        read_script(file)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_bytes(b"- \xff")
    with pytest.raises(DialectError, match="not UTF-8"):
        read_script(file)


def test_the_words_of_yaml_1_1_are_texts(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "\ufeff- no\n- yes\n- 2026-11-27\n- 12:30\n- 0x1f\n- 'true'\n- 1e-3\n- end\n", encoding="utf-8"
    )
    assert read_script(file) == ["no", "yes", "2026-11-27", "12:30", "0x1f", "true", 0.001, "end"]


def test_json_is_read_as_json(tmp_path: Path) -> None:
    """With tabs, escapes of two halves, and keys of any length, none of which YAML has."""
    file = tmp_path / "s.json"
    name = "k" * 2000
    file.write_text(
        '[\n\t"\\ud83d\\ude00\\/\x7f",\t1e0, {"tool": "t", "arguments": {"' + name + '": [1, {}]}}]'
    )
    assert read_script(file) == ["😀/\x7f", 1.0, ToolCall.of("t", **{name: [1, {}]})]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=40)
@given(JSON, st.sampled_from([None, 1, "\t"]))
def test_any_json_is_read_as_python_reads_it(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: Any
) -> None:
    file = tmp_path_factory.mktemp("j") / "s.json"
    file.write_text(json.dumps(value, indent=indent))
    node = read_document(file)
    assert node.json == value
    assert node.line == 1


def test_a_line_is_that_of_its_value(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps(["a", {"b": ["c", {"d": "e"}]}], indent=1))
    node = read_document(file)
    lines = file.read_text().splitlines()
    assert '"e"' in lines[node.find("$[1].b[1].d").line - 1]
    assert node.find("$[1].b[1].d").path == "[1].b[1].d"


def test_a_shadowed_rule_of_a_file_is_told_with_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("- when: {text: a}\n  repeat: b\n- c\n\n- when: {text: bad}\n  reply: d\n")
    with pytest.raises(ShadowedRule, match=r"s.yaml:5\)\) is never used.*s.yaml:1"):
        ScriptedModel(read_script(file))


VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema()))


def test_the_schema_in_the_docs_is_that_of_the_forms() -> None:
    assert PATH.read_text() == schema(), "write it anew: python -m tests.handlers.script_schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(PATH.read_text()))


BEYOND = re.compile(
    "can be paced|must end with a reply|matches every|braces must|no fault|must not be empty|regular expression|fault"
)
"""What a schema cannot say, or need not."""


@pytest.mark.parametrize(
    "text", [text for text, words in WRONG if not BEYOND.search(words) and "!!" not in text]
)
def test_the_schema_refuses_what_reading_refuses(text: str) -> None:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    if (
        text.startswith(("&", "- {tool", "- -1", "- refuse: 429\n  should", "-\n- a"))
        or "!!" in text
        or "<<" in text
    ):
        return
    assert not VALIDATOR.is_valid(document), text


@settings(max_examples=60)
@given(st.data())
def test_the_schema_and_the_reading_say_the_same_of_a_script_that_was_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text, _ = data.draw(st.sampled_from(SAME))
    document = deepcopy(yaml.safe_load(text))
    places = list(walk(document))
    around, key = data.draw(st.sampled_from(places))
    around[key] = data.draw(
        st.sampled_from([None, True, 3, 0.5, -1, "x", [], ["x"], {}, {"x": 1}, {"tool": "t"}])
    )
    file = tmp_path_factory.mktemp("j") / "s.json"
    file.write_text(json.dumps(document))
    try:
        read_items(read_document(file))
        reads, problem = True, ""
    except DialectError as exc:
        reads, problem = False, str(exc)
    if BEYOND.search(problem):
        return
    assert reads == VALIDATOR.is_valid(document), (document, problem)


def walk(value: Any) -> Any:
    """Each place in a document."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from walk(inner)


def test_conditions_that_say_nothing_hold_of_all() -> None:
    assert not Conditions()


@pytest.mark.parametrize("text", ["- a\n- b", "- when: {text: a}\n  reply: x", "[]"])
def test_a_script_that_is_given_as_one_reply_or_as_a_handler_is_told_how_it_is_given(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    script: Any = read_script(file)
    for give in (
        lambda: ScriptedModel([script]),
        lambda: when(text="a").reply(script),
        lambda: ScriptedModel(["a", script]),
    ):
        with pytest.raises(TypeError, match=r"the list that read_script returns: write \*read_script\(…\)"):
            give()
    with pytest.raises(TypeError, match=r"a list of replies: pass ScriptedModel\(replies\) as the handler"):
        chaos(script, seed=1)
    with pytest.raises(TypeError, match=r"replies\[0\] is a path: write \*read_script\(path\)"):
        ScriptedModel([file])  # type: ignore[list-item]


def test_a_fault_that_is_not_called_is_told() -> None:
    with pytest.raises(TypeError, match=r"replies\[0\] must be a Fault, .*: call Fault.reset\(…\)"):
        ScriptedModel([Fault.reset])
