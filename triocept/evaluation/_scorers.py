"""The built-in scorers, such as `exact` and `check_command`: functions that score an agent's work.

Each scorer can be sent to a worker. Before an agent starts, each scorer checks that it can score the tasks.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import trio

from .._rollout.functions import awaited
from .._rollout.handler import check_handler
from .._trace.trace import Trace
from .._util.failures import text_of
from ._types import NO_FILE, NoScore, Score, Task
from ._worker import Scorer, in_own_thread, run_command, scoring

SHOWN = 500
"""Maximum characters of an answer that a score contains."""


@dataclass(frozen=True)
class BuiltIn:
    """A built-in scorer, with a function that checks if it can score a task."""

    name: str
    score: Callable[[Task, Path, str], Awaitable[Score | dict[str, float]]]
    """Function that returns the score of a task, from the working directory and the agent's answer."""
    problem: Callable[[Task], str | None]
    """Function that returns the reason why the scorer cannot score a task; None if it can."""

    async def __call__(
        self, trace: Trace, task: Task, workdir: Path, *, answer: str
    ) -> Score | dict[str, float]:
        return await self.score(task, workdir, answer)


def _no_target(name: str, task: Task) -> str | None:
    return None if task.targets else f"it has no target, which the scorer {name} needs"


def _no_problem(task: Task) -> None:
    return None


def _is_equal(target: str, answer: str) -> bool:
    return target.strip() == answer.strip()


def _is_part(target: str, answer: str) -> bool:
    return target in answer


async def _matches(
    match: Callable[[str, str], bool], ignore_case: bool, task: Task, workdir: Path, answer: str
) -> Score:
    await trio.lowlevel.checkpoint()
    given, *targets = [text.casefold() if ignore_case else text for text in (answer, *task.targets)]
    return Score(any(match(target, given) for target in targets), answer=answer.strip()[-SHOWN:])


async def _regex(pattern: str | None, ignore_case: bool, task: Task, workdir: Path, answer: str) -> Score:
    await trio.lowlevel.checkpoint()
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else 0)
    patterns = task.targets if pattern is None else (pattern,)
    found = next(filter(None, (re.search(each, answer, flags) for each in patterns)), None)
    return Score(found is not None, answer=(answer.strip() if found is None else found[0])[-SHOWN:])


def _no_regex(name: str, task: Task) -> str | None:
    for pattern in task.targets:
        try:
            re.compile(pattern)
        except re.error as exc:
            return f"its target {pattern!r} is not a regular expression: {exc}"
    return _no_target(name, task)


async def _file(path: str, content: str | None, task: Task, workdir: Path, answer: str) -> Score:
    read = partial((workdir / path).read_text, errors="replace")
    try:
        found = (await in_own_thread(read)).strip()
    except FileNotFoundError:
        return Score(False, explanation=f"{NO_FILE} {path}")
    except OSError as exc:
        return Score(False, explanation=f"{path}: {exc.strerror}")
    wanted = task.targets if content is None else (content,)
    return Score(found in [each.strip() for each in wanted], answer=found[-SHOWN:])


async def _check(task: Task, workdir: Path, answer: str) -> Score:
    argv = ("bash", "-c", task.check) if isinstance(task.check, str) else task.check or ()
    code, output = await run_command(scoring.get().watcher, argv, workdir)
    return Score(code == 0, explanation=f"exit status {code}\n{output}".strip())


def _no_check(name: str, task: Task) -> str | None:
    if not task.check:
        return f"it has no check command (check), which the scorer {name} needs"
    program = "bash" if isinstance(task.check, str) else task.check[0]
    if os.sep not in program and not shutil.which(program):
        return f"its check command {program!r} is not installed"
    return None


_IN_HARBOR = """
root=$1 tests=$2 logs=$3 work=$4
mount -t tmpfs none "$root"
for each in /*; do
  case $each in /tests|/logs|/app) continue;; esac
  if [ -L "$each" ]; then cp -P "$each" "$root$each"
  elif [ -d "$each" ]; then mkdir "$root$each" && mount --rbind "$each" "$root$each"
  fi
done
mkdir "$root/tests" "$root/logs" "$root/app"
mount --bind "$tests" "$root/tests" && mount --bind "$logs" "$root/logs" && mount --bind "$work" "$root/app" &&
exec chroot "$root" bash -c 'cd "$1" && exec bash /tests/test.sh' bash "$work"
"""
"""Shell script that runs a Harbor task's tests in a mount namespace, in which folders of the task are mounted as
`/tests`, `/logs` and `/app`."""


async def _harbor(task: Task, workdir: Path, answer: str) -> Score | dict[str, float]:
    """Run `tests/test.sh` of a Harbor task; return the reward that the script writes."""
    source: Any = task.metadata["harbor"]
    with tempfile.TemporaryDirectory(prefix="triocept-") as name:
        root, tests, logs = (Path(name) / each for each in ("root", "tests", "logs"))
        for folder in (root, logs, logs / "verifier"):
            folder.mkdir()
        shutil.copytree(Path(source["folder"]) / "tests", tests)
        unshare = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
        argv = (*unshare, "bash", "-ec", _IN_HARBOR, "bash", *map(str, (root, tests, logs, workdir)))
        code, output = await run_command(scoring.get().watcher, argv, workdir, source.get("env"))
        return _reward(logs / "verifier", f"test.sh ended with status {code}\n{output}".strip())


def _no_harbor(name: str, task: Task) -> str | None:
    if "harbor" in task.metadata:
        return None
    return f"it was not read from a folder in Harbor's format, which the scorer {name} needs"


def _reward(folder: Path, output: str) -> Score | dict[str, float]:
    """Return the reward that the tests of a Harbor task wrote into `folder`, whatever their exit status was."""
    document, text = folder / "reward.json", folder / "reward.txt"
    try:
        if document.exists():
            rewards = msgspec.json.decode(document.read_bytes(), type=dict[str, float])
        else:
            rewards = {"reward": float(text.read_text())}
    except FileNotFoundError:
        raise NoScore(f"the tests wrote neither reward.json nor reward.txt: {output}") from None
    except (msgspec.DecodeError, ValueError) as exc:
        raise NoScore(
            f"the reward of the tests cannot be read: {exc}; {output}", reason="invalid_score"
        ) from None
    if not rewards or not all(map(isfinite, rewards.values())):
        raise NoScore(f"the reward of the tests is {rewards}, not a finite number", reason="invalid_score")
    return Score(rewards["reward"], explanation=output) if [*rewards] == ["reward"] else rewards


JUDGE = """\
You grade the work of an agent.

[Task]
{prompt}
[/Task]

[Right answer or criteria]
{target}
[/Right answer or criteria]

[Answer of the agent]
{answer}
[/Answer of the agent]

{instructions}
First give a short reason. End with a line that has one of these forms:
GRADE: C (correct)
GRADE: P (partly correct)
GRADE: I (incorrect)
"""
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0}
_GRADE = re.compile(r"GRADE:\s*\**([CPI])\b")


async def _judge(
    model: Callable[[], Any], instructions: str, template: str, task: Task, workdir: Path, answer: str
) -> Score:
    target = "\n".join(task.targets) or "(none given)"
    prompt = template.format(prompt=task.prompt, target=target, answer=answer, instructions=instructions)
    try:
        async with AsyncExitStack() as stack:
            handler: Any = await awaited(model())
            if isinstance(handler, AbstractAsyncContextManager):
                handler = await stack.enter_async_context(handler)
            check_handler(handler)
            judge = await stack.enter_async_context(scoring.get().open_judge(handler))
            said = (await judge.ask(prompt)).text
    except Exception as exc:
        raise NoScore(f"the judge's model failed: {text_of(exc)}", reason="grader_failed") from exc
    if not (grades := _GRADE.findall(said)):
        text = f"the judge gave no grade (its answer has no line GRADE: C, P or I): {said[-SHOWN:]!r}"
        raise NoScore(text, reason="grader_failed")
    return Score(_GRADES[grades[-1]], answer=answer.strip()[-SHOWN:], explanation=said)


def exact(*, ignore_case: bool = False, name: str = "exact") -> Scorer:
    """Return a scorer that gives 1 if the agent's answer is equal to one of the task's targets, else 0.

    White space at the start and at the end of the answer and of the target is ignored.
    """
    return BuiltIn(name, partial(_matches, _is_equal, ignore_case), partial(_no_target, name))


def includes(*, ignore_case: bool = True, name: str = "includes") -> Scorer:
    """Return a scorer that gives 1 if the agent's answer contains one of the task's targets, else 0."""
    return BuiltIn(name, partial(_matches, _is_part, ignore_case), partial(_no_target, name))


def regex(pattern: str | None = None, *, ignore_case: bool = False, name: str = "regex") -> Scorer:
    """Return a scorer that gives 1 if the regular expression matches a part of the agent's answer, else 0.

    `^` and `$` match at the start and the end of each line.

    Args:
        pattern: the regular expression. None means that each target of the task is a regular expression.
        ignore_case: if True, upper and lower case are not distinguished.
        name: name of the score.

    Raises:
        re.error: `pattern` is not a regular expression.
    """
    if pattern is not None:
        re.compile(pattern)
    problem = _no_problem if pattern is not None else partial(_no_regex, name)
    return BuiltIn(name, partial(_regex, pattern, ignore_case), problem)


def file_content(path: str, content: str | None = None, *, name: str = "file") -> Scorer:
    """Return a scorer that gives 1 if a file in the working directory has the expected content, else 0.

    White space at the start and at the end of the file is ignored.

    Args:
        path: path of the file in the working directory. If there is no such file, the score is 0.
        content: the expected content. None means that the content must be one of the task's targets.
        name: name of the score.
    """
    problem = _no_problem if content is not None else partial(_no_target, name)
    return BuiltIn(name, partial(_file, path, content), problem)


def check_command(*, name: str = "check") -> Scorer:
    """Return a scorer that gives 1 if the task's check command ends with status 0, else 0.

    The command runs in the agent's working directory. Its output is the score's explanation.
    """
    return BuiltIn(name, _check, partial(_no_check, name))


def harbor_reward(*, name: str = "reward") -> Scorer:
    """Return a scorer for tasks in Harbor's format: it runs `tests/test.sh`, and reads `reward.json` or `reward.txt`.

    The tests run on this machine. They find the task's folder `tests` at `/tests`, an empty folder at `/logs/verifier`,
    and the agent's working directory at `/app`. The scorer needs Linux, and the command `unshare`.
    """
    return BuiltIn(name, _harbor, partial(_no_harbor, name))


def model_judge(
    model: Callable[[], Any],
    *,
    instructions: str = "",
    template: str = JUDGE,
    name: str = "judge",
) -> Scorer:
    """Return a scorer that prompts a model, the judge, to grade the agent's answer.

    The score is 1 for a correct answer, 0.5 for a partly correct answer, and 0 for an incorrect answer. The judge calls
    its model in a child of the sample's rollout, so the judge's prompt, answer and cost are in the sample's trace. If
    the judge fails or gives no grade, the sample lacks this score.

    Args:
        model: a function without arguments that returns a handler, or an async context whose value is a handler, for
            example `partial(open_upstream, url, dialect="openai_chat", model="judge")`.
        instructions: further instructions for the judge.
        template: prompt of the judge, with the placeholders `{prompt}`, `{target}`, `{answer}` and `{instructions}`.
            The judge must end with `GRADE: C`, `GRADE: P` or `GRADE: I`.
        name: name of the score.
    """
    return BuiltIn(name, partial(_judge, model, instructions, template), _no_problem)
