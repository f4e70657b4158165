"""Readers of tasks: each format gives the same tasks, and an error names the line and the task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from tests.evaluation.schema import PATH, schema
from triocept.evaluation import BadTasks, Task, TaskList, read_tasks


def lines(path: Path, *documents: object) -> Path:
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in documents)
    )
    return path


def test_json_lines_have_the_fields_of_a_task_and_files_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("x")
    document = {
        "id": 7, "input": "Do it.", "target": ["a", "b"], "files": {"in.txt": "data.txt", "note": "some text"},
        "setup": "make", "check": ["pytest", "-q"], "check_files": {"t.py": "data:,x"}, "scorer_timeout": 10,
        "time_limit": 60, "turn_limit": 9, "metadata": {"level": 2},
    }  # fmt: skip
    found = read_tasks(
        lines(tmp_path / "tasks.jsonl", "\ufeff" + json.dumps(document), "", {"prompt": "Two."})
    )
    assert found.name == "tasks"
    assert found.tasks == [
        Task(
            id="7", prompt="Do it.", target=("a", "b"),
            files={"in.txt": str(tmp_path / "data.txt"), "note": "some text"}, setup="make", check=("pytest", "-q"),
            check_files={"t.py": "data:,x"}, scorer_timeout=10, time_limit=60, turn_limit=9, metadata={"level": 2},
        ),
        Task(id="3", prompt="Two."),
    ]  # fmt: skip
    assert found.places == {"7": f"{tmp_path}/tasks.jsonl:1", "3": f"{tmp_path}/tasks.jsonl:3"}


def test_a_json_list_holds_tasks_too(tmp_path: Path) -> None:
    found = read_tasks(lines(tmp_path / "tasks.json", [{"prompt": "One."}, {"id": "x", "prompt": "Two."}]))
    assert [task.id for task in found.tasks] == ["1", "x"]


def test_messages_of_the_user_become_one_text(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "One."},
        {"role": "user", "content": [{"type": "text", "text": "Two."}]},
    ]
    assert read_tasks(lines(tmp_path / "t.jsonl", {"input": messages})).tasks[0].prompt == "One.\n\nTwo."


@pytest.mark.parametrize(("document", "text"), [
    ("{", "the JSON object is not closed; a line has the form"),
    ("[1]", "a task must be an object with a prompt, not list"),
    ("null", "a task must be a JSON object, not null; a line has the form"),
    ({"id": "a"}, "task 'a': it has no prompt (prompt or input)"),
    ({"id": "", "prompt": "x"}, "id must be a text or a whole number, not str: ''"),
    ({"id": ["x"], "prompt": "x"}, "id must be a text or a whole number, not list: ['x']"),
    ({"id": "a", "prompt": " "}, "task 'a': it has no prompt"),
    ({"id": "a", "prompt": 3}, "task 'a': the prompt must be a text, not int: 3"),
    ({"id": "a", "prompt": "x", "input": "y"}, "task 'a': input and prompt are the same field"),
    ({"id": "a", "prompt": "x", "targett": 1}, "task 'a': unknown field 'targett'; did you mean target?"),
    ({"id": "a", "prompt": "x", "colour": 1}, "task 'a': unknown field 'colour'; put your own data into metadata;"),
    ({"id": "a", "prompt": "x", "files": ["y"]}, "task 'a': files must be a JSON object, not [\"y\"]"),
    ({"id": "a", "prompt": "x", "time_limit": 0}, "task 'a': time_limit must be more than 0, not 0"),
    ({"id": "a", "prompt": "x", "files": {"/etc/x": ""}}, "the path '/etc/x' of a file must be within"),
    ({"id": "a", "prompt": "x", "check_files": {"../x": ""}}, "the path '../x' of a file must be within"),
    ({"id": "a", "prompt": [{"role": "system", "content": "x"}]}, "message 0 of its prompt has the role 'system'"),
    ({"id": "a", "prompt": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part of type 'image_url'"),
])  # fmt: skip
def test_an_error_names_the_line_and_the_task(tmp_path: Path, document: object, text: str) -> None:
    file = lines(tmp_path / "t.jsonl", {"prompt": "fine"}, document)
    with pytest.raises(BadTasks) as caught:
        read_tasks(file)
    assert str(caught.value).startswith(f"{file}:2: ")
    assert text in str(caught.value)


def test_a_value_that_is_no_json_is_shown_in_an_error() -> None:
    found = TaskList("n")
    found.add({"prompt": "x", "setup": 1j}, "task 1", number=1)
    assert found.errors == ['task 1: setup must be a text, not "1j"']


def test_ids_must_differ_and_the_first_errors_are_listed(tmp_path: Path) -> None:
    file = lines(tmp_path / "t.jsonl", *[{"id": "a", "prompt": "x"}] * 13)
    with pytest.raises(BadTasks) as caught:
        read_tasks(file)
    errors = str(caught.value).splitlines()
    assert errors[0] == f"{file}:2: {file}:1 has the same id, 'a': ids must differ"
    assert len(errors) == 11
    assert errors[-1] == "and 2 more"


@pytest.mark.parametrize(("name", "content", "text"), [
    ("t.jsonl", "", "it contains no task"),
    ("t.json", "{}", "a .json file must contain one list of tasks"),
    ("t.txt", "", "the suffix is not that of a known format"),
    ("t.csv", "prompt,time_limit\nx,soon\n", "t.csv:2: time_limit must be a number, not 'soon'"),
    ("t.csv", "prompt\nx,y\n", "t.csv:2: the row has more fields than the header: ['y']"),
    ("t.yaml", "a: 1", "it is not a configuration of promptfoo"),
    ("t.yaml", "a: [", "t.yaml:1: this is not YAML"),
    ("t.yaml", "prompts: ['{{w}}']\ntests: [{vars: {x: 1}}]", "t.yaml:2, test 1: its vars do not contain 'w'"),
])  # fmt: skip
def test_a_file_that_holds_no_tasks_is_an_error(tmp_path: Path, name: str, content: str, text: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadTasks) as caught:
        read_tasks(tmp_path / name)
    assert text in str(caught.value)


def test_columns_of_csv_that_are_no_fields_become_metadata(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'id,input,target,time_limit,level,files\na,"Do\nit",x,5,easy,"{""a"": ""b""}"\n'
    )
    (task,) = read_tasks(tmp_path / "t.csv").tasks
    assert task == Task(
        id="a", prompt="Do\nit", target="x", time_limit=5, files={"a": "b"}, metadata={"level": "easy"}
    )


def harbor_task(
    folder: Path, *, toml: str = "", tests: str = "exit 0", instruction: str = "Do it.\n"
) -> Path:
    for name in ("environment", "tests"):
        (folder / name).mkdir(parents=True)
    (folder / "task.toml").write_text(toml)
    (folder / "instruction").with_suffix(".md").write_text(instruction)
    (folder / "environment/Dockerfile").write_text("FROM x")
    (folder / "environment/data.txt").write_text("x")
    (folder / "tests/test.sh").write_text(tests)
    return folder


def test_harbor_folders_are_tasks_without_their_container(tmp_path: Path) -> None:
    toml = '[task]\nname = "org/one"\n[metadata]\nlevel = "easy"\n'
    toml += "[agent]\ntimeout_sec = 9.0\n[verifier]\ntimeout_sec = 5.0\n"
    one = harbor_task(tmp_path / "a", toml=toml, instruction="<!-- canary GUID 1 -->\nDo it.\n")
    harbor_task(tmp_path / "b")
    first, second = read_tasks(tmp_path).tasks
    assert first == Task(
        id="org/one", prompt="Do it.\n", files={"data.txt": str(one / "environment/data.txt")}, time_limit=9.0,
        scorer_timeout=5.0, metadata={"level": "easy", "harbor": {"folder": str(one), "env": {}}},
    )  # fmt: skip
    assert second.id == "b"
    assert read_tasks(one).tasks == [first]


def test_a_harbor_folder_without_tests_is_an_error(tmp_path: Path) -> None:
    (harbor_task(tmp_path / "a") / "tests/test.sh").unlink()
    with pytest.raises(BadTasks, match=r"a: it has no tests/test.sh"):
        read_tasks(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadTasks, match="neither a task folder of Harbor"):
        read_tasks(tmp_path / "empty")


def test_promptfoo_tests_are_filled_into_the_prompts(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("a long word")
    (tmp_path / "p.yaml").write_text(
        "prompts: ['Say {{ w }}.']\n"
        "defaultTest: {vars: {x: 1}}\n"
        "tests:\n"
        "- {vars: {w: [hi, yes]}, description: both, assert: [{type: icontains, value: '{{w}}'}]}\n"
        "- {vars: {w: 'file://long.txt'}, metadata: {level: 2}}\n"
    )
    first, second, third = read_tasks(tmp_path / "p.yaml").tasks
    assert (first.id, first.prompt, first.targets) == ("1.1", "Say hi.", ("hi",))
    assert (second.id, second.prompt, second.targets) == ("1.2", "Say yes.", ("yes",))
    assert (third.id, third.prompt, third.metadata["level"]) == ("2", "Say a long word.", 2)
    assert first.metadata["description"] == "both"


def test_tasks_of_inspect_are_read_if_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    file = tmp_path / "mine.py"
    file.write_text(
        "from inspect_ai import Task, task\n"
        "from inspect_ai.dataset import MemoryDataset, Sample\n"
        "from inspect_ai.model import ChatMessageUser\n"
        "@task\n"
        "def words():\n"
        "    return Task(MemoryDataset([Sample(input='One.', target='1', metadata={'k': 1}),\n"
        "        Sample(input=[ChatMessageUser(content='Two.')], id='b')]), epochs=3, time_limit=60)\n"
    )
    found = read_tasks(f"{file}:words")
    assert found.tasks == [
        Task(id="1", prompt="One.", target="1", metadata={"k": 1}, time_limit=60),
        Task(id="b", prompt="Two.", time_limit=60),
    ]
    assert (found.name, found.samples) == ("words", 3)
    assert read_tasks(file).tasks == found.tasks
    with pytest.raises(BadTasks, match="there is no task 'x'; it has words"):
        read_tasks(f"{file}:x")


def test_a_folder_of_datasets_is_read_if_it_is_installed(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows: dict[str, list[Any]] = {"input": ["One."], "target": ["1"], "level": ["easy"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "one")
    datasets.DatasetDict(test=datasets.Dataset.from_dict(rows)).save_to_disk(tmp_path / "all")
    expected = [Task(id="1", prompt="One.", target="1", metadata={"level": "easy"})]
    assert read_tasks(tmp_path / "one").tasks == expected
    assert read_tasks(tmp_path / "all", split="test").tasks == expected
    with pytest.raises(BadTasks, match="it has the splits test"):
        read_tasks(tmp_path / "all")


@pytest.mark.parametrize(("module", "path"), [("inspect_ai", "x.py"), ("datasets", "folder")])
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, path: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/dataset_info.json").write_text("{}")
    with pytest.raises(ImportError, match=f"needs the package {module.replace('_', '-')}: pip install"):
        read_tasks(tmp_path / path)


def test_a_split_needs_a_folder_of_datasets(tmp_path: Path) -> None:
    with pytest.raises(BadTasks, match="only a folder of datasets has splits"):
        read_tasks(lines(tmp_path / "t.jsonl", {"prompt": "x"}), split="test")


def test_a_list_without_errors_is_returned() -> None:
    found = TaskList("n")
    found.add({"prompt": "x"}, "task 1", number=1)
    assert found.checked("n").tasks == [Task(id="1", prompt="x")]
    assert msgspec.json.decode(msgspec.json.encode(found.tasks[0]), type=Task) == found.tasks[0]


def test_the_schema_of_a_task_is_that_of_its_type_and_accepts_what_the_reader_accepts(tmp_path: Path) -> None:
    assert PATH.read_text() == schema(), "python -m tests.evaluation.schema"
    validator = jsonschema.Draft202012Validator(json.loads(schema()))
    validator.check_schema(validator.schema)
    for document in (
        {"input": "x"},
        {"id": 1, "prompt": "x", "target": ["a"], "check": "true", "time_limit": 2.5},
    ):
        validator.validate(document)
        assert read_tasks(lines(tmp_path / "t.jsonl", document)).tasks
    for document in ({"id": "a"}, {"prompt": "x", "tarqet": "y"}, {"prompt": "x", "files": []}):
        assert not validator.is_valid(document)
        with pytest.raises(BadTasks):
            read_tasks(lines(tmp_path / "t.jsonl", document))
