"""Run one sample of a task in a worker: prepare its directory, run the agent in a rollout, and score the agent's work.

`_agent_end` and `_apply` contain the rule that decides if a sample is scored. The docs and the table repeat this rule.

If a scorer fails, the store keeps the working directory, so that the sample can be scored again without running the
agent.
"""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec
import trio

from .._endpoint import Endpoint, serve_endpoint
from .._process.environment import agent_environment
from .._process.output import AgentResult
from .._process.process import open_process
from .._process.watcher import Watcher
from .._rollout.budget import Limits
from .._rollout.embedding import Embed
from .._rollout.functions import awaited
from .._rollout.handler import Handler
from .._rollout.rollout import Rollout, core_of_rollout, open_unlimited_child
from .._trace.redaction import Redaction, Redactor
from .._trace.trace import Trace
from .._util.checks import described
from .._util.failures import leaves, text_of
from ..errors import (
    AgentFailed,
    ContextLengthError,
    LimitReached,
    StoreError,
    UpstreamError,
    UpstreamTruncated,
)
from ..fleets.store.keys import json_of
from ..handlers import Policy, approve
from ._types import WORKDIRS, AgentEnd, Failure, NoScore, Sample, Score, Task, belongs, lacking, sample_at

log: logging.Logger = logging.getLogger("triocept.evaluation")

OUTPUT_LENGTH = 20_000
"""Maximum characters that are kept of an agent's output, and of an explanation. Only the end is kept."""
_OVERLOADED = 429
"""HTTP status with which a provider refuses calls for some time. From status 500 on, the provider itself has failed."""
_PROVIDER_ERRORS = (UpstreamError.__name__, UpstreamTruncated.__name__)

AgentFunction: TypeAlias = Callable[[Rollout, Task, Path], Awaitable[str | AgentResult | None]]
"""`async (rollout, task, workdir) -> answer`: an agent that is a function. The function either calls the model of the
rollout itself, or starts a program by `rollout.run_agent`. It returns the agent's answer, the result of `run_agent`, or
None.
"""
Scorer: TypeAlias = Callable[..., Any]
"""`(trace, task, workdir) -> Score, number, bool, or a dict of them`; async or not. If it has a parameter `answer`, the
agent's answer is passed to it."""
Answering: TypeAlias = AbstractAsyncContextManager[tuple[Handler, Embed | None]]
OpenModel: TypeAlias = Callable[[], AbstractAsyncContextManager[Callable[[], Answering]]]
"""Function that each worker calls once to open the model. The value of the context is a function that opens the handler
of one sample."""


@dataclass(frozen=True)
class Scoring:
    """Objects of the worker that the built-in scorers of one sample use."""

    watcher: Watcher
    """Watcher process, which ends the commands of scorers if the program dies."""
    open_judge: Callable[[Handler], AbstractAsyncContextManager[Rollout]]
    """Function that opens a rollout in which a judge calls its model."""


scoring: ContextVar[Scoring] = ContextVar("triocept_scoring")
"""The `Scoring` of the sample that is being scored."""


@dataclass(frozen=True)
class Plan:
    """The settings that all samples share, and that the driver sends to the workers."""

    agent: AgentFunction
    open_model: OpenModel
    scorers: Mapping[str, Scorer]
    """The scorers, by their names."""
    limits: Limits = Limits()  # noqa: RUF009 - it is immutable
    """Limits of each sample, in addition to those of its task."""
    workspace: Path | None = None
    """Directory of which each sample gets a copy as its working directory; None means an empty directory."""
    policy: Policy | None = None
    redact: Redaction | None = None
    store: Path | None = None
    """The store; None for an evaluation without a store."""
    keeps_workdirs: bool = False
    """If True, the store keeps the working directory of each sample. If False, the store keeps this directory only if a
    scorer fails and no redaction is set, because the files are stored without redaction.
    """
    scored_alone: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Recorded samples that are scored without running the agent again. The keys are task and number. Each value is the
    offset, in bytes, at which the sample's line in `done.jsonl` starts."""
    rescoring: int = 0
    """Number of the rescoring; see `EvaluationFile.rescorings`."""
    only_failed: bool = True
    """If True, only the scorers that failed for a recorded sample score it again."""
    in_process: bool = False
    """True if the samples run in the process of the caller, where a KeyboardInterrupt may come from Ctrl-C."""


@dataclass(frozen=True)
class Bench:
    plan: Plan
    endpoint: Endpoint
    open_handler: Callable[[], Answering]


@asynccontextmanager
async def open_bench(plan: Plan) -> AsyncIterator[Bench]:
    scorers = {name: loaded(scorer) for name, scorer in plan.scorers.items()}
    async with plan.open_model() as open_handler, serve_endpoint(redact=plan.redact) as endpoint:
        yield Bench(replace(plan, scorers=scorers), endpoint, open_handler)


def loaded(scorer: Any) -> Any:
    """Return `scorer`.

    If `scorer` stands for a function in a file (`--scorer FILE.py:NAME`), load and return the function.
    """
    return scorer.load_function() if hasattr(scorer, "load_function") else scorer


async def run_sample(bench: Bench, task: Task, *, attempt: int, sample: int) -> Any:
    """Run one sample of a task, or only its scorers. Return the `Sample` as JSON."""
    folder = Path(tempfile.mkdtemp(prefix="triocept-"))
    found: dict[str, Any] = {"rescoring": bench.plan.rescoring}
    offset = bench.plan.scored_alone.get((task.id, sample))
    try:
        if offset is None:
            await _run(bench, task, folder / "work", found)
        else:
            found = await _score_again(bench, task, folder / "work", offset)
    except NoScore as exc:
        found |= {"reason": exc.reason, "explanation": _text_of(exc, Redactor(bench.plan.redact))}
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
    return msgspec.to_builtins(Sample(**found))


def _text_of(error: NoScore, redactor: Redactor) -> str:
    return redactor.text(error.message)[:OUTPUT_LENGTH]


async def _run(bench: Bench, task: Task, workdir: Path, found: dict[str, Any]) -> None:
    """Run one sample, and store the fields of its `Sample` in `found`. Raise NoScore if it cannot be scored."""
    plan = bench.plan
    try:
        await trio.to_thread.run_sync(_prepare, workdir, plan.workspace, task.files)
    except (OSError, ValueError) as exc:
        raise NoScore(f"the working directory cannot be prepared: {exc}", reason="setup_failed") from exc
    turns = [limit for limit in (plan.limits.turns, task.turn_limit) if limit is not None]
    limits = msgspec.structs.replace(plan.limits, seconds=None, turns=min(turns, default=None))
    try:
        async with AsyncExitStack() as stack:
            handler, embed = await stack.enter_async_context(bench.open_handler())
            handler = handler if plan.policy is None else approve(handler, plan.policy)
            metadata = dict(task.metadata)
            opening = bench.endpoint.open_rollout(handler, limits=limits, embed=embed, metadata=metadata)
            rollout = await stack.enter_async_context(opening)
            if task.setup is not None:
                await _set_up(bench.endpoint._watcher, task.setup, task.scorer_timeout, workdir)
            await _run_agent(plan, rollout, task, workdir, found)
    except NoScore:
        raise
    except Exception as exc:  # of the handler, or of the recorder
        raise NoScore(f"{type(exc).__name__}: {text_of(exc)}", reason="model_error") from exc


async def _set_up(watcher: Watcher, script: str, timeout: float, workdir: Path) -> None:
    text = f"the setup script took longer than {timeout:g} s"
    with trio.move_on_after(timeout):
        code, output = await run_command(watcher, ("bash", "-c", script), workdir)
        if not code:
            return
        text = f"the setup script returned {code}{': ' if output else ''}{output}"
    raise NoScore(text, reason="setup_failed")


async def _run_agent(plan: Plan, rollout: Rollout, task: Task, workdir: Path, found: dict[str, Any]) -> None:
    seconds = task.time_limit if task.time_limit is not None else plan.limits.seconds
    given: Any = None
    problem: NoScore | None = None
    started = trio.current_time()
    with trio.move_on_after(inf if seconds is None else seconds) as scope:
        try:
            given = await plan.agent(rollout, task, workdir)
        except AgentFailed as exc:
            given = exc
        except Exception as exc:  # noqa: BLE001 - it is the reason why the sample has no score
            if rollout.trace.stopped is None:  # else the limit is the reason
                problem = NoScore(f"{type(exc).__name__}: {text_of(exc)}", reason="agent_raised")
    found["seconds"] = round(trio.current_time() - started, 3)
    if scope.cancelled_caught:
        await rollout.stop(f"the time limit of {seconds:g} s is reached")
    trace = rollout.trace
    usage = trace.usage  # without that of the judges
    found |= {name: getattr(usage, name) for name in ("input_tokens", "output_tokens", "estimated")}
    found |= {"turns": _turns(trace), "cost": trace.cost, "stopped": trace.stopped}
    output = given.stdout_text if isinstance(given, AgentResult) else str(given or "")
    found["output"] = Redactor(plan.redact).text(output)[-OUTPUT_LENGTH:]
    if problem is not None:
        raise problem
    found["ended"], found["returncode"] = _agent_end(trace, given, timed_out=scope.cancelled_caught)
    found["returned"] = isinstance(given, str)
    answer = given if isinstance(given, str) else answer_of(trace)
    services = Scoring(core_of_rollout(rollout).watcher, partial(open_unlimited_child, rollout))
    scores, failures = await _score(plan, plan.scorers, services, trace, task, workdir, answer)
    found |= {"cost": trace.cost, **_outcome(scores, failures)}
    for name, score in scores.items():
        await rollout.score(name, score.value)
    if plan.store is not None and (plan.keeps_workdirs or (failures and plan.redact is None)):
        await trio.to_thread.run_sync(_keep, workdir, plan.store / WORKDIRS / trace.run)


async def _score_again(bench: Bench, task: Task, workdir: Path, offset: int) -> dict[str, Any]:
    """Run the scorers on a recorded sample, but not its agent. Return the fields of its new `Sample`.

    `offset` is the place of the sample's line in `done.jsonl`.
    """
    plan = bench.plan
    assert plan.store is not None
    before = await trio.to_thread.run_sync(sample_at, plan.store, offset)
    scorers = {
        name: each for name, each in plan.scorers.items() if name in before.failures or not plan.only_failed
    }
    costs: list[float | None] = [before.cost]
    scores: dict[str, Score] = {}
    failures: dict[str, Failure]

    @asynccontextmanager
    async def open_judge(handler: Handler) -> AsyncIterator[Rollout]:
        limits = Limits(prices=plan.limits.prices)
        async with bench.endpoint.open_rollout(handler, limits=limits) as judge:
            yield judge
            costs.append(judge.trace.cost)

    try:
        trace = await trio.to_thread.run_sync(lambda: before.traces[0])
        kept = before.workdir
        if kept is not None:
            await trio.to_thread.run_sync(partial(shutil.copytree, kept, workdir, symlinks=True))
    except (StoreError, OSError, IndexError) as exc:
        problem = f"the record of the sample cannot be read: {exc}"
        failures = {name: ("not_recorded", problem) for name in scorers}  # noqa: C420 - for mypy
    else:
        answer = before.output if before.returned else answer_of(trace)
        services = Scoring(bench.endpoint._watcher, open_judge)
        place = workdir if kept is not None else None
        scores, failures = await _score(plan, scorers, services, trace, task, place, answer)
    unread = {name for name, (reason, _) in failures.items() if reason == "not_recorded"}
    stands = unread - {*lacking(before, unread)}
    replaced = scorers.keys() - stands
    failures = {name: each for name, each in failures.items() if name not in stands}
    kept_scores = {
        name: each
        for name, each in before.scores.items()
        if not any(belongs(name, scorer) for scorer in replaced)
    }
    kept_failures = {name: each for name, each in before.failures.items() if name not in scorers}
    return {
        **msgspec.structs.asdict(before),
        **_outcome(kept_scores | scores, kept_failures | failures),
        "cost": sum(known) if (known := [cost for cost in costs if cost is not None]) else None,
        "scorings": before.scorings + 1,
        "not_rescored": tuple(name for name in scorers if name in stands),
        "rescoring": before.rescoring if plan.only_failed else plan.rescoring,
        "traces": (),
    }


def _outcome(scores: Mapping[str, Score], failures: Mapping[str, Failure]) -> dict[str, Any]:
    reason, explanation = next(iter(failures.values()), (None, ""))
    return {"scores": scores, "failures": failures, "reason": reason, "explanation": explanation}


async def _score(
    plan: Plan,
    scorers: Mapping[str, Scorer],
    services: Scoring,
    trace: Trace,
    task: Task,
    workdir: Path | None,
    answer: str,
) -> tuple[dict[str, Score], dict[str, Failure]]:
    """Make each scorer score a sample; return the scores and the failures, by name.

    `workdir` is None if the store has not kept the working directory.
    """
    redactor = Redactor(plan.redact)
    scores: dict[str, Score] = {}
    failures: dict[str, Failure] = {}
    try:
        if workdir is not None and task.check_files:
            await trio.to_thread.run_sync(_copy_files, workdir, task.check_files)
    except (OSError, ValueError) as exc:
        error = NoScore(f"the check files cannot be copied: {exc}", reason="setup_failed")
        return {}, dict.fromkeys(scorers, (error.reason, _text_of(error, redactor)))
    token = scoring.set(services)
    try:
        for name, scorer in scorers.items():
            missing = MissingDirectory()
            place: Any = missing if workdir is None else workdir
            try:
                given = await _apply(plan, name, scorer, trace, task, place, answer)
                missing.check()
                scores |= {key: _shortened(score, redactor) for key, score in given.items()}
            except NoScore as exc:
                failures[name] = exc.reason, _text_of(exc, redactor)
    finally:
        scoring.reset(token)
    return scores, failures


class MissingDirectory:
    """Placeholder for a working directory that was not kept. Each use of the placeholder raises NoScore.

    A scorer that does not use the directory can still score the sample.
    """

    _used = False

    def check(self) -> None:
        """Raise NoScore if the scorer has used the directory, even if the scorer caught the NoScore of that use."""
        if self._used:
            self._fail()

    def _fail(self, *args: object) -> Any:
        self._used = True
        raise NoScore(
            "the scorer needs the working directory of the sample, but the store did not keep it: to keep it, run the "
            "evaluation again with keep_workdirs=True",
            reason="not_recorded",
        )

    __fspath__ = __str__ = __truediv__ = __rtruediv__ = __getattr__ = _fail


def _agent_end(trace: Trace, given: object, *, timed_out: bool) -> tuple[AgentEnd, int | None]:
    """Return how the agent ended, and its exit status. Raise NoScore if the agent's work cannot be scored."""
    returncode = getattr(given, "returncode", None)
    if isinstance(given, AgentFailed) and returncode is None:
        raise NoScore(str(given), reason="agent_not_started")
    stderr = f"; its stderr ends with: {given.stderr_tail}" if isinstance(given, AgentResult) else ""
    if not _turns(trace):
        how = f" and returned {returncode}{stderr}" if returncode else ""
        text = f"the agent never called the model{how}: check the base URL and the key that the agent uses"
        raise NoScore(text, reason="no_model_call")
    errors = (turn.error for turn in reversed(trace.turns))
    error = next((each for each in errors if each is None or each.type != LimitReached.__name__), None)
    if error is not None and error.type != ContextLengthError.__name__:
        status = error.status or 0
        if error.type in _PROVIDER_ERRORS or status == _OVERLOADED or status >= 500:
            raise NoScore(f"{error.type}: {error.message}", reason="provider_error")
    if timed_out:
        return "time_limit", returncode
    if trace.stopped is not None:
        return "limit", returncode
    return ("failed" if returncode else "completed"), returncode


def _turns(trace: Trace) -> int:
    return len(trace) + sum(map(_turns, trace.children))


def answer_of(trace: Trace) -> str:
    """Return the agent's answer: the model's last text in the main conversation, or else in the whole trace.

    If the model wrote no text, the answer is empty.
    """
    conversations = trace.conversations
    texts = [
        (conversations[turn.id].kind == "main", turn.response.text)
        for turn in trace
        if turn.outcome == "answered" and turn.response is not None and turn.response.text
    ]
    of_main = [text for is_main, text in texts if is_main]
    return (of_main or [text for _, text in texts] or [""])[-1]


async def _apply(
    plan: Plan, name: str, scorer: Scorer, trace: Trace, task: Task, workdir: Path, answer: str
) -> dict[str, Score]:
    """Run a scorer, and return its scores by name.

    Raise NoScore if the scorer raises an exception, exceeds its time limit, or returns something that is not a score.
    """
    try:
        function = partial(scorer, answer=answer) if takes_answer(scorer) else scorer
        with trio.move_on_after(task.scorer_timeout) as scope:
            if is_async(scorer):
                given = await function(trace, task, workdir)
            else:
                call = partial(function, trace, task, workdir)
                given = await awaited(await in_own_thread(call))
        if not scope.cancel_called:  # it also was in time: a scorer may block, or ignore the cancellation
            return scores_of(name, given)
    except NoScore:
        raise
    except BaseException as exc:
        ends = (trio.Cancelled, KeyboardInterrupt) if plan.in_process else trio.Cancelled
        if any(isinstance(each, ends) for each in leaves(exc)):
            raise
        text = f"the scorer {name} raised {type(exc).__name__}: {text_of(exc)}{_place(exc)}"
        raise NoScore(text, reason="scorer_failed") from exc
    text = f"the scorer {name} took longer than {task.scorer_timeout:g} s"
    raise NoScore(text, reason="scorer_timeout")


async def in_own_thread(call: Callable[[], Any]) -> Any:
    """Run `call`, which may never return, in a thread.

    The thread does not use trio's default limiter. So even if `call` never returns, other threads can start.
    """
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


def takes_answer(scorer: Callable[..., Any]) -> bool:
    try:
        return "answer" in inspect.signature(scorer).parameters
    except ValueError:  # written in C
        return False


def is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _place(error: BaseException) -> str:
    """Return the file and the line in which `error` was raised, as text: ` (check.py, line 7)`."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return "" if at is None else f" ({Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno})"


def scores_of(name: str, given: object) -> dict[str, Score]:
    """Convert the value that the scorer `name` returned to scores by name; raise NoScore if the value is invalid."""
    if isinstance(given, Mapping) and given:
        parts = [part for key, value in given.items() for part in scores_of(f"{name}.{key}", value).items()]
        if len(scores := dict(parts)) < len(parts):
            names = [key for key, _ in parts]
            twice = next(key for key in names if names.count(key) > 1)
            text = f"the scorer {name} returned two scores with the name {twice}: give them different keys"
            raise NoScore(text, reason="invalid_score")
        return scores
    score = given if isinstance(given, Score) else Score(given)  # type: ignore[arg-type]
    value: object = score.value
    if not isfinite(number := _number(value)):
        if isinstance(value, int):
            what = "an int that is too large for a float"
        else:
            what = repr(value) if isinstance(value, float | None) else described(value)
        text = f"the scorer {name} returned {what}: return a finite number, True or False, a Score, or a dict of them"
        raise NoScore(text, reason="invalid_score")
    try:
        stored = msgspec.to_builtins(msgspec.structs.replace(score, value=number))
        json_of(score.metadata, "its metadata")
        return {name: msgspec.convert(stored, Score)}
    except (TypeError, msgspec.ValidationError) as exc:
        text = f"the scorer {name} returned a Score that cannot be stored: {exc}"
        raise NoScore(text, reason="invalid_score") from exc


def _number(value: Any) -> float:
    # numpy's numbers support `__float__`, too, and a text does not.
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return nan
    try:
        return float(value)
    except OverflowError:
        return nan


def _shortened(score: Score, redactor: Redactor) -> Score:
    texts = {
        key: redactor.text(text)[-OUTPUT_LENGTH:]
        for key in ("answer", "explanation")
        if (text := getattr(score, key)) is not None
    }
    return msgspec.structs.replace(score, **texts)


# Files and commands


def _keep(workdir: Path, target: Path) -> None:
    """Move a working directory into the store, either completely or not at all."""
    part = target.with_suffix(".part")
    try:
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(workdir, part, symlinks=True)
        part.rename(target)
    except OSError as exc:
        shutil.rmtree(part, ignore_errors=True)
        log.warning("the working directory of a sample could not be kept in %s: %s", target, exc)


def _prepare(workdir: Path, workspace: Path | None, files: Mapping[str, str]) -> None:
    if workspace is None:
        workdir.mkdir()
    else:
        shutil.copytree(workspace, workdir, symlinks=True)
    _copy_files(workdir, files)


def _copy_files(workdir: Path, files: Mapping[str, str]) -> None:
    for name, source in files.items():
        target = workdir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():  # of the agent
            target.unlink()
        if source.startswith("data:"):
            head, _, data = source.partition(",")
            target.write_bytes(b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data))
        elif is_path(source) and Path(source).is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif is_path(source):
            shutil.copy(source, target)
        else:
            target.write_text(source)


def is_path(source: str) -> bool:
    """Return True if `source` is the path of an existing file or directory, and not the content of a file."""
    try:
        return bool(source) and "\n" not in source and Path(source).exists()
    except OSError:  # too long for a name
        return False


async def run_command(
    watcher: Watcher,
    argv: tuple[str, ...],
    workdir: Path,
    env: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command of a task. Return its exit status, and the last part of its output.

    Cancellation: ends the command and all processes that it started.

    Raises:
        AgentFailed: the command cannot be started.
    """
    environment = agent_environment(os.environ, {"PWD": str(workdir)}, env)
    async with open_process(argv, env=environment, watcher=watcher, cwd=workdir) as process:
        await process.wait()
    result = process.result
    text = "\n".join(filter(None, (result.stdout_text.strip(), result.stderr_text.strip())))
    return result.returncode, text[-2000:]
