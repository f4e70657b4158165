"""`evaluate`: each sample has a score or a reason why it has none, in memory and in a store."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import triocept
from tests.evaluation.agents import COMMAND, ask, behave, raise_key, says, write_key
from tests.fleets.test_ends import lives
from triocept import Exchange, Limits, Refusal, ScriptedModel, UpstreamError
from triocept._util.failures import leaves
from triocept._util.secrets import MARK
from triocept.errors import StoreError
from triocept.evaluation import (
    BadTasks,
    EvaluationResults,
    NoScore,
    Sample,
    Score,
    Task,
    check_command,
    evaluate,
    exact,
    includes,
    model_judge,
    read_results,
)
from triocept.evaluation._evaluate import EvaluationRun, GivenModel
from triocept.evaluation._table import counts_of
from triocept.evaluation._worker import Plan
from triocept.evaluation.readers.reading import listed
from triocept.fleets import InProcess, Processes, open_fleet, open_store
from triocept.traces import Redaction

TASK = {"id": "a", "prompt": "Say hello.", "target": "hello"}


async def one(agent: Any = ask, **options: Any) -> Sample:
    """The only sample of one task."""
    given = {"model": says("hello"), "scorers": exact()} | options
    task = TASK | given.pop("task", {})
    (sample,) = (await evaluate([task], agent, **given)).samples
    return sample


async def test_a_sample_that_a_scorer_scored_has_the_score_and_what_the_agent_used() -> None:
    sample = await one()
    assert sample.scored
    assert sample.scores == {"exact": Score(1.0, answer="hello")}
    assert (sample.task, sample.number, sample.ended, sample.turns) == ("a", 0, "completed", 1)
    assert sample.output_tokens > 0
    assert sample.output == "hello"
    (trace,) = sample.traces
    assert trace.scores == {"exact": 1.0}


async def test_a_wrong_answer_is_a_score_of_0() -> None:
    assert (await one(model=says("bye"))).scores["exact"].value == 0.0


@pytest.mark.parametrize(("name", "ended"), [
    ("returns 3", "failed"),
    ("slow", "time_limit"),
    ("greedy", "limit"),
])  # fmt: skip
async def test_an_agent_that_fails_or_reaches_a_limit_is_scored(name: str, ended: str) -> None:
    limits = {"slow": {"time_limit": 1.5}, "greedy": {"turn_limit": 1}}.get(name, {})
    sample = await one(behave, task={"id": name, **limits}, scorers=includes(), model=says("hello", "more"))
    assert (sample.scored, sample.ended) == (True, ended)
    assert sample.scores["includes"].value == 1.0
    assert (sample.stopped is None) == (ended == "failed")


async def test_a_limit_of_all_samples_is_scored_like_that_of_a_task() -> None:
    sample = await one(behave, task={"id": "slow"}, limits=Limits(seconds=1.5))
    assert sample.ended == "time_limit"
    assert sample.stopped == "the time limit of 1.5 s is reached"


async def overloaded(exchange: Exchange) -> None:
    raise UpstreamError("overloaded", status=529)


async def busy(exchange: Exchange) -> None:
    raise Refusal(429, "too many requests")


async def buggy(exchange: Exchange) -> None:
    raise LookupError("a bug in the handler")


async def swallow(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
    """An agent that reports an error of its provider as its answer."""
    try:
        return await ask(rollout, task, workdir)
    except Refusal as exc:
        return str(exc)


@pytest.mark.parametrize(("name", "model", "reason"), [
    ("silent", says("hello"), "no_model_call"),
    ("not there", says("hello"), "agent_not_started"),
    ("raises", says("hello"), "agent_raised"),
    ("a", overloaded, "agent_raised"),
    ("a", buggy, "model_error"),
])  # fmt: skip
async def test_a_sample_whose_agent_could_not_work_has_no_score(name: str, model: Any, reason: str) -> None:
    sample = await one(behave, task={"id": name}, model=model)
    assert (sample.scored, sample.reason, sample.ended) == (False, reason, None)
    assert sample.explanation


@pytest.mark.parametrize("model", [overloaded, busy])
async def test_a_sample_whose_last_call_failed_at_the_provider_has_no_score(model: Any) -> None:
    sample = await one(swallow, model=model)
    assert sample.reason == "provider_error"


async def test_a_provider_that_recovers_is_no_reason() -> None:
    calls = iter([overloaded, says("hello")()])

    async def model(exchange: Exchange) -> None:
        await next(calls)(exchange)

    async def again(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
        await swallow(rollout, task, workdir)
        return await ask(rollout, task, workdir)

    assert (await one(again, model=model)).scored


def raises(trace: Any, task: Task, workdir: Path) -> float:
    raise OSError("the file is not there")


async def hangs(trace: Any, task: Task, workdir: Path) -> float:
    await trio.sleep_forever()
    return 1.0


def undecided(trace: Any, task: Task, workdir: Path) -> float:
    raise NoScore("neither right nor wrong")


@pytest.mark.parametrize(("scorer", "reason", "text"), [
    (raises, "scorer_failed", "the scorer raises raised OSError: the file is not there (test_evaluate.py, line "),
    (hangs, "scorer_timeout", "the scorer hangs took longer than 1.5 s"),
    (undecided, "scorer_failed", "neither right nor wrong"),
])  # fmt: skip
async def test_a_sample_whose_scorer_fails_has_no_score(scorer: Any, reason: str, text: str) -> None:
    sample = await one(scorers=[scorer, exact()], task={"scorer_timeout": 1.5})
    assert sample.reason == reason
    assert sample.explanation.startswith(text)
    assert sample.scores["exact"].value == 1.0, "the others have theirs"
    assert [*sample.failures] == [scorer.__name__]
    assert (sample.turns, sample.output_tokens > 0) == (1, True), "what the agent used is known, too"


@pytest.mark.parametrize(("message", "reason", "text"), [
    ("no row", "unknown", "reason must be 'setup_failed', "), (5, "scorer_failed", "message must be a str, not int"),
])  # fmt: skip
async def test_a_wrong_reason_of_a_scorer_fails_only_this_scorer(
    message: Any, reason: Any, text: str, tmp_path: Path
) -> None:
    def mine(trace: Any, task: Task, workdir: Path) -> float:
        raise NoScore(message, reason=reason)

    sample = await one(scorers=[exact(), mine], store=tmp_path / "s")
    assert ([*sample.scores], sample.reason, text in sample.explanation) == (["exact"], "scorer_failed", True)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "error",
    [SystemExit(3), GeneratorExit("x"), BaseExceptionGroup("several", [SystemExit(1), ValueError("x")])],
)
async def test_an_exception_that_is_no_exception_class_fails_only_its_scorer(
    error: BaseException, is_async: bool
) -> None:
    def mine(trace: Any, task: Task, workdir: Path) -> float:
        raise error

    async def later(trace: Any, task: Task, workdir: Path) -> float:
        raise error

    scorer = later if is_async else mine
    sample = await one(scorers=[exact(), scorer, includes()])
    assert [*sample.scores] == ["exact", "includes"]
    assert [*sample.failures] == [scorer.__name__]
    assert sample.explanation.startswith(
        f"the scorer {scorer.__name__} raised {type(error).__name__}: {error}"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("several", [KeyboardInterrupt()])])
async def test_an_interruption_of_a_scorer_ends_the_evaluation(error: BaseException) -> None:
    def mine(trace: Any, task: Task, workdir: Path) -> float:
        raise error

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
        await one(scorers=[exact(), mine])
    assert [type(each) for each in leaves(caught.value)] == [KeyboardInterrupt]


def interrupted(trace: Any, task: Task, workdir: Path) -> float:
    raise KeyboardInterrupt


async def test_an_interruption_of_a_scorer_in_a_worker_process_removes_no_other_score(tmp_path: Path) -> None:
    run = partial(evaluate, [TASK], ask, model=says("hello"), store=tmp_path / "s", engine=Processes(1))
    await run(scorers=exact())
    (sample,) = (await run(scorers=interrupted, rescore=True)).samples
    assert ([*sample.scores], sample.ended) == (["exact"], "completed")
    assert sample.explanation.startswith("the scorer interrupted raised KeyboardInterrupt")


async def test_scorers_that_hang_in_their_threads_stop_no_further_sample() -> None:
    end = threading.Event()

    def mine(trace: Any, task: Task, workdir: Path) -> float:
        end.wait()
        return 1.0

    trio.to_thread.current_default_thread_limiter().total_tokens = 2
    tasks = [TASK | {"id": str(number), "scorer_timeout": 0.05} for number in range(4)]
    try:
        with trio.fail_after(30):
            results = await evaluate(tasks, ask, model=says("hello"), scorers=mine, engine=InProcess(4))
    finally:
        end.set()
    assert [sample.reason for sample in results.samples] == ["scorer_timeout"] * 4


async def test_a_score_that_comes_after_the_time_limit_is_no_score() -> None:
    async def mine(trace: Any, task: Task, workdir: Path) -> float:
        with trio.CancelScope(shield=True):
            await trio.sleep(1.5)
        return 1.0

    sample = await one(scorers=[exact(), mine], task={"scorer_timeout": 1})
    assert ([*sample.scores], sample.reason) == (["exact"], "scorer_timeout")


async def test_an_error_after_the_time_limit_of_a_scorer_fails_only_this_scorer() -> None:
    async def mine(trace: Any, task: Task, workdir: Path) -> float:
        try:
            await trio.sleep_forever()
        finally:
            raise BaseExceptionGroup("several", [SystemExit(1)])

    sample = await one(scorers=[exact(), mine], task={"scorer_timeout": 1})
    assert ([*sample.scores], [*sample.failures]) == (["exact"], ["mine"])


def fails_for_b(trace: Any, task: Task, workdir: Path) -> float:
    if task.id == "b":
        raise LookupError("no such row")
    return 0.5


async def test_scores_stand_although_another_scorer_failed(tmp_path: Path) -> None:
    results = await evaluate(
        [TASK, TASK | {"id": "b"}],
        ask,
        model=says("hello"),
        scorers=[fails_for_b, exact(), raises],
        store=tmp_path,
    )
    assert results.values("exact") == {"a": [1.0], "b": [1.0]}
    assert results.values("fails_for_b") == {"a": [0.5], "b": []}
    assert [sample.reason for sample in results.samples] == ["scorer_failed"] * 2
    rows = {line.split()[0]: line.split() for line in results.table().splitlines() if line}
    assert rows["fails_for_b"][-3:] == ["1", "of", "2"]
    assert rows["exact"][-3:] == ["2", "of", "2"]
    assert rows["raises"][1:] == ["n/a", "n/a", "n/a", "0", "of", "2"]
    assert "no score    2   2 scorer failed (raises), 1 scorer failed (fails_for_b)" in results.table()
    document = results.document()
    assert (document["scored"], document["errors"]) == (0, {"scorer_failed": 2})
    assert {name: each["scored"] for name, each in document["scores"].items()} == {
        "fails_for_b": 1, "exact": 2, "raises": 0,
    }  # fmt: skip


async def linger(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
    answer = await ask(rollout, task, workdir)
    await trio.sleep(0.05)
    return answer


async def linger_and_fail(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
    await linger(rollout, task, workdir)
    raise KeyError("a bug in the agent")


@pytest.mark.parametrize(("agent", "options"), [(linger_and_fail, {}), (linger, {"scorers": raises})])
async def test_the_seconds_of_a_sample_without_a_score_are_those_of_its_agent(
    agent: Any, options: Any
) -> None:
    sample = await one(agent, **options)
    assert not sample.scored
    assert sample.seconds > 0.04
    assert (sample.turns, sample.output_tokens > 0) == (1, True)


async def test_two_scores_with_the_same_name_are_an_error() -> None:
    def a(trace: Any, task: Task, workdir: Path) -> Any:
        return {"b": {"c": 1}, "b.c": 2}

    sample = await one(scorers=a)
    assert (
        sample.explanation == "the scorer a returned two scores with the name a.b.c: give them different keys"
    )
    with pytest.raises(ValueError, match=r"the scorers 'a' and 'a\.b' may give scores with the same name"):
        await one(scorers=[exact(name="a.b"), a])


@pytest.mark.parametrize("value", [
    None, "C", float("nan"), float("inf"), {}, {"a": None}, [1.0], 10**400,
    pytest.param(10**5000, id="huge"), pytest.param(Score(10**5000), id="huge score"),
    Score(1, answer=5), Score(1, metadata={"a": object()}), Score(1, metadata={"a": [float("nan")]}),
])  # fmt: skip
async def test_a_scorer_that_returns_no_number_gives_no_score(value: Any) -> None:
    def mine(trace: Any, task: Task, workdir: Path) -> Any:
        return value

    sample = await one(scorers=[exact(), mine])
    assert sample.reason == "invalid_score"
    assert [*sample.scores] == ["exact"], "the others have theirs"
    assert "returned" in sample.explanation


async def test_a_scorer_may_return_several_scores_and_see_the_answer_and_the_files() -> None:
    def mine(trace: Any, task: Task, workdir: Path, *, answer: str) -> Any:
        return {"same": (workdir / "out.txt").read_text() == answer, "calls": Score(len(trace))}

    sample = await one(scorers=mine)
    assert {name: score.value for name, score in sample.scores.items()} == {
        "mine.same": 1.0,
        "mine.calls": 1.0,
    }


async def test_the_name_of_a_scorer_may_contain_a_dot() -> None:
    scorers = [includes(name="v1.0"), exact(name="a")]
    results = await evaluate([TASK], ask, model=says("hello"), scorers=scorers)
    assert results.score_names == ("v1.0", "a")
    assert "v1.0" in results.table()


async def test_files_setup_and_check_files_are_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/one.py").write_text("1")
    seen: dict[str, Any] = {}

    async def look(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
        seen.update({str(path.relative_to(workdir)): path.read_text() for path in workdir.rglob("*.*")})
        (workdir / "test.txt").write_text("planted by the agent")
        return await ask(rollout, task, workdir)

    task = {
        "files": {"a.txt": "text", "b/c.txt": "data:text/plain;base64,aGk=", "lib": str(tmp_path / "lib")},
        "setup": "echo made > made.txt",
        "check_files": {"test.txt": "hidden"},
        "check": "grep -q hidden test.txt",
    }
    sample = await one(look, task=task, scorers=check_command())
    assert seen == {"a.txt": "text", "b/c.txt": "hi", "lib/one.py": "1", "made.txt": "made\n"}
    assert sample.scores["check"].value == 1.0


@pytest.mark.parametrize("engine", [InProcess(1), Processes(1)], ids=["in-process", "processes"])
async def test_the_error_of_a_scorer_that_contains_a_key_is_stored_without_it(
    tmp_path: Path, engine: Any
) -> None:
    results = await evaluate(
        [{"id": "a", "prompt": "x"}],
        write_key,
        model=says("hello"),
        scorers=raise_key,
        store=tmp_path / "run",
        engine=engine,
    )
    (sample,) = results.samples
    assert sample.reason == "scorer_failed"
    assert f"raised ValueError: {MARK}" in sample.explanation
    files = [
        path for path in (tmp_path / "run").rglob("*") if path.is_file() and "workdirs" not in path.parts
    ]
    stored = b"".join(path.read_bytes() for path in files)
    assert b"raised ValueError" in stored
    assert b"sk-triocept-" not in stored


async def test_a_failed_setup_script_is_no_score() -> None:
    sample = await one(task={"setup": "echo broken >&2; exit 7"})
    assert sample.reason == "setup_failed"
    assert sample.explanation == "the setup script returned 7: broken"


async def test_a_hanging_check_command_is_ended_and_is_no_score(tmp_path: Path) -> None:
    task = {"check": f"sleep 300 & echo $! > {tmp_path}/pid; wait", "scorer_timeout": 3}
    with trio.fail_after(30):
        sample = await one(task=task, scorers=check_command())
    assert sample.reason == "scorer_timeout"
    pid = int((tmp_path / "pid").read_text())
    assert not lives(pid)


async def test_a_hanging_setup_script_is_ended_and_is_no_score(tmp_path: Path) -> None:
    task = {"setup": f"sleep 300 & echo $! > {tmp_path}/pid; wait", "scorer_timeout": 3}
    with trio.fail_after(30):
        sample = await one(task=task)
    assert (sample.reason, sample.explanation) == (
        "setup_failed",
        "the setup script took longer than 3 s",
    )
    assert not lives(int((tmp_path / "pid").read_text()))


async def test_a_judge_is_a_child_rollout_also_after_the_agents_limit() -> None:
    judge = model_judge(says("It says hello.\nGRADE: P"))
    sample = await one(
        behave, task={"id": "greedy", "turn_limit": 1}, scorers=judge, model=says("hello", "more")
    )
    assert sample.scores == {"judge": Score(0.5, answer="hello", explanation="It says hello.\nGRADE: P")}
    assert sample.turns == 2, "the refused call counts, the judge's does not"
    trace = sample.traces[0]
    (child,) = trace.children
    assert "Say hello." in child[0].request.user_text


@pytest.mark.parametrize("model", [says("Hard to tell."), overloaded])
async def test_a_judge_without_a_grade_is_no_score(model: Any) -> None:
    factory = model if model is not overloaded else lambda: overloaded
    assert (await one(scorers=model_judge(factory))).reason == "grader_failed"


@pytest.mark.slow
async def test_commands_and_known_settings_run_in_worker_processes(tmp_path: Path) -> None:
    tasks = [
        {
            "id": name,
            "prompt": name,
            "check": "grep -q hello out.txt",
            "time_limit": 5 if name == "wait" else None,
        }
        for name in ("fine", "fail", "wait")
    ]
    results = await evaluate(
        tasks, COMMAND, model=says("hello"), scorers=check_command(), samples=2, store=tmp_path / "store",
        engine=Processes(1, slots_per_worker=6),
    )  # fmt: skip
    ends = {sample.task: (sample.ended, sample.returncode) for sample in results.samples}
    assert ends["fine"] == ("completed", 0)
    assert ends["fail"] == ("failed", 1)
    assert ends["wait"][0] == "time_limit"
    assert results.values("check") == {name: [1.0, 1.0] for name in ("fine", "fail", "wait")}


async def end_worker(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
    text = await ask(rollout, task, workdir)
    if not Path(task.metadata.get("harmless", "")).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return text


@pytest.mark.slow
async def test_a_sample_that_ends_its_worker_has_no_score_and_runs_again_at_the_next_start(
    tmp_path: Path,
) -> None:
    run = partial(
        evaluate, [TASK, TASK | {"id": "ends its worker", "metadata": {"harmless": f"{tmp_path}/harmless"}}],
        model=says("hello"), scorers=exact(),
        engine=Processes(1, slots_per_worker=1), store=tmp_path / "s",
    )  # fmt: skip
    results = await run(end_worker)
    assert [sample.reason for sample in results.samples] == [None, "worker_lost"]
    assert "SIGKILL" in results.samples[1].explanation
    assert read_results(tmp_path / "s") == results
    with (tmp_path / "s/lost.jsonl").open("ab") as file:
        file.write(b'\n{"key": "torn')
    assert read_results(tmp_path / "s") == results
    (tmp_path / "harmless").touch()
    again = await run(end_worker)
    assert [sample.reason for sample in again.samples] == [None, None]


def local_model() -> ScriptedModel:
    return ScriptedModel(["hello"])


@pytest.mark.parametrize(("options", "name"), [
    ({"model": lambda: ScriptedModel(["hello"])}, r"lambda \(test_evaluate\.py:\d+\)"),
    ({"model": local_model}, "local_model"),
    ({"model": partial(local_model)}, "local_model"),
    ({"model": partial(triocept.open_upstream, "http://127.0.0.1:9/v1", dialect="ollama")}, r"127\.0\.0\.1:9"),
    ({"model": partial(triocept.open_upstream, "http://127.0.0.1:9/v1", dialect="ollama", model="qwen")}, "qwen"),
    ({"model": local_model, "model_name": "scripted"}, "scripted"),
])  # fmt: skip
async def test_a_model_has_a_name_for_readers(options: dict[str, Any], name: str) -> None:
    async def my_agent(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
        await trio.lowlevel.checkpoint()
        return ""

    results = await evaluate([TASK], my_agent, scorers=exact(), **options)
    assert re.fullmatch(name, results.model)
    assert results.agent == "my_agent"
    assert results.table().startswith(f"evaluation · my_agent · {results.model} · ")


# The store


def counting(agent: Callable[..., Any], ran: list[str]) -> Any:
    async def counted(rollout: triocept.Rollout, task: Task, workdir: Path) -> Any:
        ran.append(task.id)
        return await agent(rollout, task, workdir)

    return counted


TASKS = [TASK, TASK | {"id": "raises"}, TASK | {"id": "b"}]


async def test_only_samples_without_a_score_run_again_and_only_if_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    run = partial(
        evaluate,
        TASKS,
        counting(behave, ran),
        model=says("hello"),
        scorers=exact(),
        samples=2,
        store=tmp_path / "s",
    )
    first = await run()
    assert sorted(ran) == ["a", "a", "b", "b", "raises", "raises"]
    assert [sample.reason for sample in first.samples] == [
        None,
        None,
        "agent_raised",
        "agent_raised",
        None,
        None,
    ]
    ran.clear()
    with caplog.at_level(logging.WARNING, "triocept.evaluation"):
        second = await run()
    assert ran == []
    assert second.values("exact") == first.values("exact") == {"a": [1.0, 1.0], "raises": [], "b": [1.0, 1.0]}
    assert "2 of 6 samples of earlier runs lack a score (2 agent raised): raises/0, raises/1" in caplog.text
    third = await run(retry_errors=True)
    assert ran == ["raises", "raises"]
    assert [sample.attempts for sample in third.samples] == [1, 1, 2, 2, 1, 1]
    assert read_results(tmp_path / "s") == third


async def test_results_of_a_store_are_those_in_memory(tmp_path: Path) -> None:
    run = partial(evaluate, TASKS, behave, model=says("hello"), scorers=[exact(), includes()], samples=2)
    memory, stored = await run(), await run(store=tmp_path / "s")

    def shown(results: EvaluationResults) -> list[Any]:
        return [(each.task, each.number, each.scores, each.reason, each.turns) for each in results.scored]

    assert shown(memory) == shown(stored)
    assert memory.score_names == stored.score_names == ("exact", "includes")
    assert memory.by_task().keys() == stored.by_task().keys()


async def test_more_tasks_and_more_samples_join_the_store(tmp_path: Path) -> None:
    ran: list[str] = []
    agent = counting(ask, ran)
    run = partial(evaluate, TASKS, agent, model=says("hello"), scorers=exact(), store=tmp_path / "s")
    await run(limit=1)
    await run(limit=2, samples=2)
    results = await run(task_ids=["b"], samples=2)
    assert sorted(ran) == ["a", "a", "b", "b", "raises", "raises"]
    assert results.planned == len(results.scored) == 6


@pytest.mark.parametrize(("change", "text"), [
    ({"tasks": [TASK | {"id": "z"}]}, "another list of tasks: it has the task 'a', which is not in evaluation"),
    ({"tasks": [TASK | {"prompt": "Bye."}]}, "task 1: task 'a' differs from the task that the store has"),
    ({"scorers": includes()}, "its setting scorers is"),
    ({"model": overloaded}, "its setting model is"),
    ({"samples": 1}, "the store was planned with 2 samples of each task, not 1"),
])  # fmt: skip
async def test_a_store_of_another_evaluation_is_refused_and_keeps_its_samples(
    tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    usual = {"tasks": [TASK], "agent": ask, "model": says("hello"), "scorers": exact(), "samples": 2}
    before = await evaluate(**usual, store=tmp_path / "s")
    with pytest.raises(StoreError, match=f"{tmp_path}/s: .*{text}"):
        await evaluate(**usual | change, store=tmp_path / "s")
    assert read_results(tmp_path / "s") == before


async def test_the_store_of_a_fleet_is_no_store_of_an_evaluation(tmp_path: Path) -> None:
    async def solve(worker: object, task: Any, *, attempt: int) -> int:
        return 1

    async with (
        open_store(tmp_path) as store,
        open_fleet() as fleet,
        fleet.map(solve, [1], store=store) as results,
    ):
        async for _ in results:
            pass
    with pytest.raises(StoreError, match=r"the store is that of a fleet.*triocept\.fleets\.read_results"):
        read_results(tmp_path)
    with pytest.raises(StoreError, match=r"its setting agent"):
        await evaluate([TASK], ask, model=says("hello"), scorers=exact(), store=tmp_path)


async def test_a_cancelled_evaluation_keeps_what_has_ended(tmp_path: Path) -> None:
    done = trio.Event()

    async def agent(rollout: triocept.Rollout, task: Task, workdir: Path) -> str:
        text = await ask(rollout, task, workdir)
        if task.id == "b":
            done.set()
            await trio.sleep_forever()
        return text

    run = partial(evaluate, TASKS, agent, model=says("hello"), scorers=exact(), store=tmp_path / "s")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await done.wait()
        while len((tmp_path / "s/done.jsonl").read_bytes().splitlines()) < 2:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    results = read_results(tmp_path / "s")
    assert [sample.task for sample in results.scored] == ["a", "raises"]
    assert results.planned == 3


# What is refused before an agent starts


@pytest.mark.parametrize(("change", "error", "text"), [
    ({"tasks": []}, BadTasks, "it contains no task"),
    ({"tasks": [TASK, TASK]}, BadTasks, "task 2: task 1 has the same id, 'a': ids must differ"),
    ({"tasks": [{"id": "a"}]}, BadTasks, "task 1: task 'a': it has no prompt"),
    ({"tasks": [{"id": "a", "prompt": "x"}]}, BadTasks, "task 1: task 'a': it has no target, which the scorer exact"),
    ({"scorers": check_command()}, BadTasks, "task 1: task 'a': it has no check command"),
    ({"scorers": []}, ValueError, "at least one scorer"),
    ({"scorers": [exact(), exact()]}, ValueError, "two scorers have the name 'exact'"),
    ({"scorers": lambda trace: 1}, TypeError, "a scorer must take"),
    ({"scorers": "exact"}, TypeError, r"a scorer must be a function \(.*, not str: 'exact'"),
    ({"scorers": exact}, TypeError, r"exact does not: write exact\(…\), which returns a scorer"),
    ({"tasks": ["x"]}, BadTasks, r"""not str: 'x'; write \{"prompt": 'x'\}"""),
    ({"agent": "tasks.jsonl"}, TypeError, "the tasks are the first argument, and the agent the second: 'tasks.jsonl'"),
    ({"agent": "claude"}, ValueError, "unknown agent 'claude'; .*; did you mean claude_code"),
    ({"agent": ["claude", "-p"]}, ValueError, "needs a place for the prompt"),
    ({"agent": "clod"}, ValueError, "known agent.*aider"),
    ({"agent": lambda rollout: 1}, TypeError, "agent must take"),
    ({"model": ScriptedModel(["x"])}, TypeError, "pass a function that returns a new one for each"),
    ({"model": triocept.open_upstream("http://127.0.0.1:1/v1", dialect="openai_chat")}, TypeError, "opened only once"),
    ({"model": ["x"]}, TypeError, "a handler must be"),
    ({"task_ids": ["z"]}, BadTasks, "there is no task with the id 'z'"),
    ({"samples": 0}, ValueError, "samples"),
])  # fmt: skip
async def test_wrong_arguments_are_refused_before_an_agent_starts(
    change: dict[str, Any], error: type[Exception], text: str
) -> None:
    ran: list[str] = []
    usual = {"tasks": [TASK], "agent": counting(ask, ran), "model": says("hello"), "scorers": exact()}
    with pytest.raises(error, match=text):
        await evaluate(**usual | change)
    assert ran == []


# Scoring without an agent


def reads_file(trace: Any, task: Task, workdir: Path) -> float:
    return float((workdir / "out.txt").read_text() == "hello")


def hides_errors(trace: Any, task: Task, workdir: Path) -> float:
    with suppress(Exception):
        return float((workdir / "out.txt").exists())
    return 0.0


def length(trace: Any, task: Task, workdir: Path, *, answer: str) -> float:
    return float(len(answer))


class Broken:
    """A scorer that fails until it is repaired."""

    name = "mine"

    def __init__(self) -> None:
        self.calls = 0
        self.is_broken = True

    def __call__(self, trace: Any, task: Task, workdir: Path) -> float:
        self.calls += 1
        if self.is_broken and task.id == "b":
            raise LookupError("no such row")
        return reads_file(trace, task, workdir)


async def test_a_failed_scorer_runs_again_in_the_kept_directory_without_the_agent(tmp_path: Path) -> None:
    ran: list[str] = []
    mine = Broken()
    run = partial(
        evaluate,
        TASKS,
        counting(ask, ran),
        model=says("hello"),
        scorers=[exact(), mine],
        store=tmp_path / "s",
    )
    first = await run()
    assert [sample.workdir is not None for sample in first.samples] == [False, False, True]
    ran.clear()
    mine.calls = 0
    again = await run(retry_errors=True)
    assert (ran, mine.calls, again.samples[2].failures["mine"][0]) == ([], 1, "scorer_failed")
    mine.is_broken = False
    repaired = await run(retry_errors=True)
    assert (ran, mine.calls) == ([], 2)
    assert repaired.values("mine") == repaired.values("exact") == {"a": [1.0], "raises": [1.0], "b": [1.0]}
    assert [sample.attempts for sample in repaired.samples] == [1, 1, 1]
    assert [len(sample.traces) for sample in repaired.samples] == [1, 1, 1]
    assert repaired.samples[2].traces[0][0].response is not None
    assert repaired.samples[2].seconds == first.samples[2].seconds


async def test_a_directory_is_not_kept_unredacted_unless_it_is_asked_for(tmp_path: Path) -> None:
    for keeps, number in ((False, 0), (True, 1)):
        plan = Plan(
            agent=ask, open_model=GivenModel(says("hello")), scorers={"raises": raises},
            redact=Redaction(known_keys=True), keeps_workdirs=keeps,
        )  # fmt: skip
        run = EvaluationRun(
            name="x", tasks=listed([TASK], "x"), plan=plan, agent="ask", model="says", samples=1, engine=InProcess(),
            settings={},
        )  # fmt: skip
        await run.chosen(None, None).run(tmp_path / str(number))
        assert (tmp_path / f"{number}/workdirs").exists() == keeps


async def test_the_agent_runs_again_if_the_directory_that_the_failed_scorer_needs_is_gone(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    mine = Broken()
    run = partial(
        evaluate, [TASK | {"id": "b"}], counting(ask, ran), model=says("hello"), scorers=mine, store=tmp_path
    )
    await run()
    shutil.rmtree(tmp_path / "workdirs")
    mine.is_broken = False
    assert (await run(retry_errors=True)).values("mine") == {"b": [1.0]}
    assert ran == ["b", "b"]


async def test_rescoring_scores_recorded_samples_with_other_scorers_and_runs_no_agent(tmp_path: Path) -> None:
    ran: list[str] = []
    run = partial(
        evaluate, TASKS, counting(behave, ran), model=says("hello"), samples=2, store=tmp_path / "s"
    )
    before = await run(scorers=exact(), limit=2)
    ran.clear()
    after = await run(scorers=[length, reads_file, hides_errors], limit=2, rescore=True)
    assert ran == []
    assert after.values("exact") == before.values("exact") == {"a": [1.0, 1.0], "raises": []}
    assert after.values("length") == {"a": [5.0, 5.0], "raises": []}
    for name in ("reads_file", "hides_errors"):
        assert after.values(name) == {"a": [], "raises": []}
        reason, text = after.samples[0].failures[name]
        assert reason == "not_recorded"
        assert text.startswith(
            "the scorer needs the working directory of the sample, but the store did not keep it"
        )
    assert [sample.reason for sample in after.samples[2:]] == ["agent_raised"] * 2, "as before"
    assert after.scorers == ("exact", "length", "reads_file", "hides_errors")
    assert read_results(tmp_path / "s") == after
    ran.clear()
    whole = await run(scorers=[exact(), length, reads_file, hides_errors], retry_errors=True)
    assert sorted(ran) == ["a", "a", "b", "b", "raises", "raises"], (
        "only an agent can make the directories anew"
    )
    assert whole.values("reads_file") == {"a": [1.0, 1.0], "raises": [], "b": [1.0, 1.0]}


async def test_rescoring_replaces_a_score_and_reads_the_kept_directory_as_often_as_wanted(
    tmp_path: Path,
) -> None:
    run = partial(
        evaluate, [TASK | {"check_files": {"new.txt": "x"}}], ask, model=says("hello"), store=tmp_path / "s",
        keep_workdirs=True,
    )  # fmt: skip

    def mine(trace: Any, task: Task, workdir: Path) -> float:
        (workdir / "out.txt").write_text("changed by the scorer") if (workdir / "new.txt").exists() else None
        return 0.25

    await run(scorers=mine)
    for _ in range(2):
        results = await run(scorers=[Broken()], rescore=True)
        assert results.values("mine") == {"a": [0.0]}, "the scorer's change is in the directory that was kept"
    kept = results.samples[0].workdir
    assert kept is not None
    (kept / "out.txt").write_text("hello")
    assert (await run(scorers=[Broken()], rescore=True)).values("mine") == {"a": [1.0]}
    lines = (tmp_path / "s/done.jsonl").read_text().splitlines()
    assert len(lines) == 4, "the lines of earlier scores stay"


async def test_a_rescoring_that_ended_early_is_resumed_with_the_samples_that_it_has_not_scored(
    tmp_path: Path,
) -> None:
    tasks = [TASK | {"id": str(number)} for number in range(4)]
    run = partial(evaluate, tasks, ask, model=says("hello"), store=tmp_path / "s", engine=InProcess(1))
    await run(scorers=exact())
    calls: list[str] = []
    stops_at = 2
    stopped = trio.Event()

    async def mine(trace: Any, task: Task, workdir: Path) -> float:
        calls.append(task.id)
        if len(calls) > stops_at:
            stopped.set()
            await trio.sleep_forever()
        return 1.0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run, scorers=mine, rescore=True))
        await stopped.wait()
        nursery.cancel_scope.cancel()
    assert read_results(tmp_path / "s").values("exact") == {task["id"]: [1.0] for task in tasks}
    done, calls[:], stops_at = calls[:2], [], 100
    results = await run(scorers=mine, rescore="resume")
    assert sorted([*done, *calls]) == ["0", "1", "2", "3"], "each once"
    assert results.values("mine") == {task["id"]: [1.0] for task in tasks}
    await run(scorers=mine, rescore="resume")
    assert len(calls) == 2, "nothing is left"
    await run(scorers=mine, rescore=True)
    assert len(calls) == 6


async def test_the_judge_of_a_rescoring_is_recorded_beside_the_agent(tmp_path: Path) -> None:
    run = partial(evaluate, [TASK], ask, model=says("hello"), store=tmp_path / "s")
    await run(scorers=model_judge(says("Hard to tell.")))
    results = await run(scorers=model_judge(says("GRADE: C")), retry_errors=True)
    assert results.values("judge") == {"a": [1.0]}
    agent, undecided, judge = results.samples[0].traces
    assert agent.children[0].run == undecided.run
    assert undecided[0].response.text == "Hard to tell."
    assert judge[0].response.text == "GRADE: C"
    assert results.samples[0].turns == 1


async def test_a_rescoring_without_the_trace_gives_no_score(tmp_path: Path) -> None:
    run = partial(evaluate, [TASK], ask, model=says("hello"), scorers=exact(), store=tmp_path / "s")
    await run()
    (trace,) = (tmp_path / "s/traces").iterdir()
    trace.unlink()
    (sample,) = (await run(scorers=[exact(), length], rescore=True)).samples
    assert (sample.reason, [*sample.failures]) == ("not_recorded", ["length"])
    assert (sample.scores["exact"].value, sample.not_rescored) == (1.0, ("exact",)), (
        "the earlier score stands"
    )
    assert "is missing" in sample.explanation


async def test_a_rescoring_that_cannot_read_the_directory_keeps_the_earlier_score_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = partial(evaluate, TASKS, ask, model=says("hello"), scorers=reads_file, store=tmp_path / "s")
    before = await run()
    caplog.clear()
    after = await run(rescore=True)
    assert (
        after.values("reads_file") == before.values("reads_file") == {"a": [1.0], "raises": [1.0], "b": [1.0]}
    )
    assert [each.failures for each in after.samples] == [{}] * 3
    said = [line for line in caplog.messages if "keep their earlier score" in line]
    assert said == [
        "reads_file: 3 of 3 samples keep their earlier score, because the store did not keep the working "
        "directories that the scorer reads: run the evaluation again with keep_workdirs"
    ]


class Stopping:
    """A scorer that hangs after some calls."""

    name = "mine"

    def __init__(self, after: float) -> None:
        self.after = after
        self.stopped = trio.Event()

    async def __call__(self, trace: Any, task: Task, workdir: Path) -> float:
        self.after -= 1
        if self.after < 0:
            self.stopped.set()
            await trio.sleep_forever()
        return 1.0


async def test_an_unfinished_rescoring_is_resumed_only_with_its_scorers_and_tasks_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [TASK | {"id": str(number)} for number in range(4)]
    run = partial(evaluate, tasks, ask, model=says("hello"), store=tmp_path / "s", engine=InProcess(1))
    await run(scorers=[exact()])
    with pytest.raises(StoreError, match="it was never scored again"):
        await run(scorers=exact(), rescore="resume")
    stopping = Stopping(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run, scorers=stopping, rescore=True))
        await stopping.stopped.wait()
        nursery.cancel_scope.cancel()
    text = "the rescoring by mine is not finished: 2 of 4 samples are not scored again yet"
    before = read_results(tmp_path / "s")
    assert before.unfinished == text
    assert text in " ".join(before.table().split())
    stopping.after = 100
    changes: list[tuple[dict[str, Any], str]] = [
        ({"scorers": exact(), "rescore": "resume"}, "the scorer mine differs now"),
        ({"scorers": [stopping, exact()], "rescore": "resume"}, "the scorer exact differs now"),
        ({"scorers": stopping, "limit": 1, "rescore": "resume"}, "4 tasks, and now other tasks are selected"),
        ({"scorers": exact(), "rescore": True}, "rescore at least its scorers and its tasks"),
        ({"scorers": stopping, "limit": 1, "rescore": True}, "rescore at least its scorers and its tasks"),
    ]
    for change, problem in changes:
        with pytest.raises(StoreError, match=problem):
            await run(**change)
    assert read_results(tmp_path / "s") == before
    caplog.clear()
    await run(scorers=exact())
    assert f'{text}; to continue it: rescore="resume"' in caplog.messages
    done = await run(scorers=stopping, rescore="resume")
    assert (done.unfinished, stopping.after) == ("", 98)
    assert done.values("mine") == {task["id"]: [1.0] for task in tasks}


async def test_a_rescoring_that_has_scored_nothing_hinders_no_other_and_hides_no_unfinished_one(
    tmp_path: Path,
) -> None:
    tasks = [TASK | {"id": str(number)} for number in range(4)]
    run = partial(evaluate, tasks, ask, model=says("hello"), store=tmp_path / "s", engine=InProcess(1))
    await run(scorers=exact())

    async def stop(after: int) -> None:
        stopping = Stopping(after)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run, scorers=stopping, rescore=True))
            await stopping.stopped.wait()
            nursery.cancel_scope.cancel()

    await stop(0)
    done = await run(scorers=includes(), rescore=True)
    assert (done.unfinished, done.score_names) == ("", ("exact", "includes"))
    for after in (2, 0):
        await stop(after)
    with pytest.raises(
        StoreError, match="the rescoring by mine is not finished: 4 of 4 samples are not scored"
    ):
        await run(scorers=includes(), rescore=True)


async def test_an_evaluation_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    run = partial(evaluate, [TASK], ask, model=says("hello"), scorers=exact(), store=tmp_path / "s")
    await run()
    file = tmp_path / "s" / "evaluation.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    for use in (partial(run, rescore=True), partial(trio.to_thread.run_sync, read_results, tmp_path / "s")):
        with pytest.raises(StoreError, match=r"evaluation.json was written by a newer triocept \(format 2\)"):
            await use()


async def test_an_added_scorer_neither_closes_the_store_nor_makes_its_failures_those_of_the_first_scorers(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    run = partial(evaluate, TASKS, counting(ask, ran), model=says("hello"), store=tmp_path / "s")
    await run(scorers=exact(), limit=1)
    await run(scorers=raises, limit=1, rescore=True)
    ran.clear()
    results = await run(scorers=exact(), limit=1, retry_errors=True)
    assert ran == [], "the added scorer failed, and not the one of this run"
    assert (len(results.scored), len(results.scored_by(["exact"]))) == (0, 1)
    results = await run(scorers=exact())
    assert results.values("exact") == {"a": [1.0], "raises": [1.0], "b": [1.0]}
    with pytest.raises(StoreError, match="its setting scorers is"):
        await run(scorers=[exact(), length])
    with pytest.raises(StoreError, match="its setting scorers is"):
        await run(scorers=raises)


async def test_a_sample_that_a_later_scorer_has_not_scored_is_counted_as_one_without_its_score(
    tmp_path: Path,
) -> None:
    run = partial(evaluate, TASKS, ask, model=says("hello"), store=tmp_path / "s")
    await run(scorers=exact())
    results = await run(scorers=length, limit=1, rescore=True)
    assert [each.task for each in results.scored] == ["a"]
    assert "no score    2   2 not scored (length)" in results.table()
    assert results.document()["errors"] == {"not_scored": 2}
    assert counts_of(results, results.scorers) == {"exact": (3, ""), "length": (1, "2 not scored")}


async def test_a_rescoring_adds_no_tasks_and_no_samples_to_the_plan(tmp_path: Path) -> None:
    run = partial(evaluate, TASKS, ask, model=says("hello"), scorers=exact(), store=tmp_path / "s")
    before = await run(samples=2, limit=1)
    with pytest.raises(
        StoreError, match="the store contains 2 samples of each task, and a rescoring adds none"
    ):
        await run(samples=3, limit=1, rescore=True)
    assert read_results(tmp_path / "s") == before
    after = await run(samples=2, rescore=True)
    assert (after.planned, [task.id for task in after.tasks]) == (2, ["a"])


@pytest.mark.parametrize(("change", "error", "text"), [
    ({"store": None}, ValueError, "rescore needs store="),
    ({"retry_errors": True}, ValueError, "rescore and retry_errors exclude each other"),
    ({"rescore": "again"}, ValueError, 'rescore must be True, False or "resume"'),
    ({"rescore": 1}, ValueError, 'rescore must be True, False or "resume", not 1'),
    ({"scorers": exact(name="exact.b")}, StoreError, "the scorers 'exact' and 'exact.b' may give scores with the same"),
    ({"model": overloaded}, StoreError, "its setting model is"),
])  # fmt: skip
async def test_a_rescoring_that_is_impossible_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    usual = {
        "tasks": [TASK],
        "agent": ask,
        "model": says("hello"),
        "scorers": exact(),
        "store": tmp_path / "s",
    }
    before = await evaluate(**usual)
    with pytest.raises(error, match=text):
        await evaluate(**{**usual, "rescore": True, **change})
    assert read_results(tmp_path / "s") == before
