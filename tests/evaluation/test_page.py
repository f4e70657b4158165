"""`triocept view STORE…`: the tasks of evaluations, with their samples and scores."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from tests.evaluation.agents import behave, says
from tests.evaluation.test_comparison import triocept
from triocept._cli.fleet_live import followed_store
from triocept._cli.view import View
from triocept._view.live import LiveView
from triocept._view.source import Source
from triocept.evaluation import evaluate, exact, includes, model_judge
from triocept.evaluation._evaluate import EvaluationRun, GivenModel
from triocept.evaluation._worker import Plan
from triocept.evaluation.readers.reading import listed
from triocept.fleets import InProcess

TASKS = [
    {"id": "easy", "prompt": "Say hello.", "target": "hello"},
    {"id": "hard", "prompt": "Say bye.", "target": "bye"},
    {"id": "silent", "prompt": "Be silent.", "target": "hello"},
]


async def two_stores(folder: Path) -> Source:
    """Evaluate the same tasks with a model that says hello, and with one that says bye; read both for the page."""
    for word, number in ("hello", 2), ("bye", 1):
        await evaluate(
            TASKS if word == "hello" else TASKS[:2],
            behave,
            model=says(word),
            scorers=exact(),
            samples=number,
            store=folder / word,
            engine=InProcess(1),
        )
    return View([folder / "hello", folder / "bye"], "", 0).read()


async def test_the_page_gets_the_samples_of_two_stores_side_by_side_and_their_runs(tmp_path: Path) -> None:
    source = await two_stores(tmp_path)
    found: Any = source.evaluation
    assert [each["name"] for each in found["stores"]] == [str(tmp_path / "hello"), str(tmp_path / "bye")]
    assert found["stores"][0]["about"].startswith("behave · ")
    assert [(task["id"], task["flipped"]) for task in found["tasks"]] == [
        ("easy", True), ("hard", True), ("silent", False),
    ]  # fmt: skip
    easy, hard, silent = (task["samples"] for task in found["tasks"])
    assert [[each["state"] for each in samples] for samples in easy] == [["passed"] * 2, ["below"]]
    assert [[each["text"] for each in samples] for samples in hard] == [["exact 0"] * 2, ["exact 1"]]
    assert [each["state"] for each in silent[0]] == ["unscored"] * 2
    assert silent[0][0]["text"].startswith("no model call: the agent never called the model")
    assert silent[1] == []  # the second store has no such task
    runs = [each["run"] for samples in easy for each in samples]
    assert len(set(runs)) == 3
    for run, word in zip(runs, ("hello", "hello", "bye"), strict=True):
        assert source.runs[run].row()["text"] == word
        assert source.runs[run].trace.metadata["fleet"]["task"] == "easy"


async def test_samples_that_were_not_run_are_named_and_one_store_flips_no_task(tmp_path: Path) -> None:
    await evaluate(
        TASKS[:1], behave, model=says("hello"), scorers=exact(), store=tmp_path / "a", engine=InProcess(1)
    )
    done = tmp_path / "a" / "done.jsonl"
    done.write_bytes(b"")
    (tmp_path / "traces.jsonl").write_bytes(next((tmp_path / "a" / "traces").iterdir()).read_bytes())
    found: Any = View([tmp_path / "traces.jsonl", tmp_path / "a"], "", 0).read().evaluation
    assert found["tasks"] == [
        {"id": "easy", "flipped": False, "samples": [[{"run": None, "state": "missing", "text": "not run"}]]}
    ]


async def test_the_first_scorer_decides_if_a_sample_passes_as_in_the_table(tmp_path: Path) -> None:
    await evaluate(
        TASKS[:1],
        behave,
        model=says("hello, hello"),
        scorers=[includes(name="z"), exact(name="a")],
        store=tmp_path / "a",
        engine=InProcess(1),
    )
    found: Any = View([tmp_path / "a"], "", 0).read().evaluation
    ((sample,),) = found["tasks"][0]["samples"]
    assert (sample["state"], sample["text"]) == ("passed", "z 1 · a 0")


def embedded(page: bytes) -> Any:
    """The content of a page that is one HTML file."""
    match = re.search(rb'id="triocept-data">([^<]*)<', page)
    assert match is not None
    return json.loads(gzip.decompress(b64decode(match[1])))


async def test_the_html_export_of_stores_has_their_tasks_and_the_runs_of_the_samples(tmp_path: Path) -> None:
    source = await two_stores(tmp_path)
    done = triocept(
        "export", "--to", "html", tmp_path / "hello", tmp_path / "bye", "-o", tmp_path / "page.html"
    )
    assert done.returncode == 0, done.stderr
    document = embedded((tmp_path / "page.html").read_bytes())
    assert document["snapshot"]["evaluation"]["tasks"] == source.evaluation["tasks"]  # type: ignore[index]
    run = document["snapshot"]["evaluation"]["tasks"][0]["samples"][0][0]["run"]
    assert run in document["runs"]
    files = {row["file"] for row in document["snapshot"]["rows"]}
    assert files == {str(tmp_path / "hello"), str(tmp_path / "bye")}


@pytest.mark.parametrize("what", ["results", "rollouts"])
async def test_what_a_store_lacks_is_named_on_the_page_and_in_the_html_file(
    tmp_path: Path, what: str
) -> None:
    store, page = tmp_path / "a", tmp_path / "page.html"
    await evaluate(TASKS[:2], behave, model=says("hello"), scorers=exact(), store=store, engine=InProcess(1))
    (traces,) = (store / "traces").iterdir()
    lost = traces if what == "rollouts" else store / "done.jsonl"
    lines = lost.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1]).get("run")
    lost.write_text("".join(line for line in lines[:-1] if not last or json.loads(line)["run"] != last))
    note = {
        "rollouts": f"{store}: results name 1 rollout that the trace files do not contain; `triocept check` names them",
        "results": f"{store}: left out: 1 rollout without a result",
    }[what]
    assert View([store], "", 0).read().notes == [note]
    done = triocept("export", "--to", "html", store, "-o", page)
    assert done.returncode == (1 if what == "rollouts" else 0)
    assert f"▸ {note}\n" in done.stderr
    assert embedded(page.read_bytes())["snapshot"]["notes"] == [note]


async def test_a_sample_that_one_scorer_did_not_score_is_unscored_and_has_the_other_score(
    tmp_path: Path,
) -> None:
    def fails(trace: Any, task: Any, workdir: Path) -> float:
        raise LookupError("no such row")

    await evaluate(TASKS[:1], behave, model=says("hello"), scorers=[exact(), fails], store=tmp_path / "a")
    found: Any = View([tmp_path / "a"], "", 0).read().evaluation
    ((sample,),) = found["tasks"][0]["samples"]
    assert sample["state"] == "unscored"
    assert sample["text"].startswith(
        "exact 1 · scorer failed: the scorer fails raised LookupError: no such row"
    )


async def test_a_rescored_sample_links_to_its_agents_run_and_not_to_the_judges(tmp_path: Path) -> None:
    run = partial(evaluate, TASKS[:1], behave, model=says("hello"), store=tmp_path / "a", engine=InProcess(1))
    await run(scorers=exact())
    await run(scorers=model_judge(says("GRADE: C")), rescore=True)
    source = View([tmp_path / "a"], "", 0).read()
    ((sample,),) = source.evaluation["tasks"][0]["samples"]  # type: ignore[index]
    assert sample["text"] == "exact 1 · judge 1"
    assert source.runs[sample["run"]].row()["text"] == "hello"
    assert len(source.runs) == 2


async def test_the_page_shows_the_tasks_of_an_evaluation_that_is_running(tmp_path: Path) -> None:
    view, frames = LiveView("run"), list[Any]()
    show = view.show_tasks
    view.show_tasks = lambda row: (frames.append(row), show(row))  # type: ignore[method-assign]
    shown = trio.Event()

    async def agent(rollout: Any, task: Any, workdir: Path) -> str | None:
        if task.id == "hard":
            while not frames or frames[-1]["tasks"][0]["samples"][0][0]["state"] != "passed":
                await trio.testing.wait_all_tasks_blocked(0.01)
            shown.set()
        return await behave(rollout, task, workdir)

    run = EvaluationRun(
        name="x", tasks=listed(TASKS, "x"), agent="ask", model="says", samples=1, engine=InProcess(1), settings={},
        plan=Plan(agent=agent, open_model=GivenModel(says("hello")), scorers={"exact": exact()}),
        watch=lambda fleet: followed_store(fleet, tmp_path / "a", None, None, view),
    )  # fmt: skip
    await run.chosen(None, None).run(tmp_path / "a")
    assert shown.is_set()
    assert [task["samples"][0][0]["state"] for task in frames[-1]["tasks"]] == ["passed", "below", "unscored"]
    assert view.snapshot()["evaluation"] == frames[-1]
    assert frames[-1]["tasks"][0]["samples"][0][0]["run"] in view.runs


async def test_runs_of_no_evaluation_have_no_tasks(tmp_path: Path) -> None:
    await evaluate(
        TASKS[:1], behave, model=says("hello"), scorers=exact(), store=tmp_path / "a", engine=InProcess(1)
    )
    (tmp_path / "traces.jsonl").write_bytes(next((tmp_path / "a" / "traces").iterdir()).read_bytes())
    assert View([tmp_path / "traces.jsonl"], "", 0).read().evaluation is None


async def test_a_damaged_line_of_the_results_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    await evaluate(
        TASKS, behave, model=says("hello"), scorers=exact(), store=tmp_path / "a", engine=InProcess(1)
    )
    done = tmp_path / "a" / "done.jsonl"
    lines = done.read_bytes().splitlines(keepends=True)
    done.write_bytes(b"".join([lines[0], b"{damaged\n", *lines[2:]]))
    source = View([tmp_path / "a"], "", 0).read()
    assert len(source.runs) == len(TASKS) - 1
    assert any(note.startswith("a line was not read: ") and f"{done}:2" in note for note in source.notes)


async def test_a_damaged_description_of_the_evaluation_hides_the_tasks_only(tmp_path: Path) -> None:
    await evaluate(
        TASKS[:1], behave, model=says("hello"), scorers=exact(), store=tmp_path / "a", engine=InProcess(1)
    )
    (tmp_path / "a" / "evaluation.json").write_text("{")
    source = View([tmp_path / "a"], "", 0).read()
    assert len(source.runs) == 1
    assert source.evaluation is None
    assert "evaluation.json cannot be read" in source.notes[0]
