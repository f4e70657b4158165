"""The built-in scorers. Each can be sent to a worker, and checks every task before an agent starts."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
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
from .._rollout.rollout import open_unlimited_child
from .._trace.trace import Trace
from .._util.failures import text_of
from ._types import NoScore, Score, Task
from ._worker import Scorer, run_command, sample_rollout

SHOWN = 500
"""Characters of an answer that a score keeps."""


@dataclass(frozen=True)
class BuiltIn:
    """A built-in scorer."""

    name: str

    def problem(self, task: Task) -> str | None:
        """Return the reason why the task cannot be scored; None if it can."""
        return None


@dataclass(frozen=True)
class _OfAnswer(BuiltIn):
    """A scorer that compares the agent's answer with the task's targets."""

    ignore_case: bool

    def problem(self, task: Task) -> str | None:
        return None if task.targets else f"it has no target, which the scorer {self.name} needs"

    def passes(self, answer: str, target: str) -> bool:
        raise NotImplementedError

    async def __call__(self, trace: Trace, task: Task, workdir: Path, *, answer: str) -> Score:
        await trio.lowlevel.checkpoint()
        return Score(
            any(self.passes(answer, target) for target in task.targets), answer=answer.strip()[-SHOWN:]
        )


class _Exact(_OfAnswer):
    def passes(self, answer: str, target: str) -> bool:
        return _cased(answer, self.ignore_case).strip() == _cased(target, self.ignore_case).strip()


class _Includes(_OfAnswer):
    def passes(self, answer: str, target: str) -> bool:
        return _cased(target, self.ignore_case) in _cased(answer, self.ignore_case)


@dataclass(frozen=True)
class _Regex(_OfAnswer):
    pattern: str | None

    def problem(self, task: Task) -> str | None:
        if self.pattern is None and (problem := super().problem(task)) is not None:
            return problem
        for pattern in task.targets if self.pattern is None else ():
            try:
                re.compile(pattern)
            except re.error as exc:
                return f"its target {pattern!r} is not a regular expression: {exc}"
        return None

    async def __call__(self, trace: Trace, task: Task, workdir: Path, *, answer: str) -> Score:
        await trio.lowlevel.checkpoint()
        flags = re.MULTILINE | (re.IGNORECASE if self.ignore_case else 0)
        patterns = task.targets if self.pattern is None else (self.pattern,)
        found = next(filter(None, (re.search(pattern, answer, flags) for pattern in patterns)), None)
        return Score(found is not None, answer=(answer.strip() if found is None else found[0])[-SHOWN:])


@dataclass(frozen=True)
class _FileContent(BuiltIn):
    path: str
    content: str | None

    def problem(self, task: Task) -> str | None:
        if self.content is None and not task.targets:
            return f"it has no target, with which the scorer {self.name} compares the file {self.path}"
        return None

    async def __call__(self, trace: Trace, task: Task, workdir: Path) -> Score:
        read = partial((workdir / self.path).read_text, errors="replace")
        try:
            found = (await trio.to_thread.run_sync(read, abandon_on_cancel=True)).strip()
        except OSError as exc:
            return Score(False, explanation=f"{self.path}: {exc.strerror}")
        wanted = task.targets if self.content is None else (self.content,)
        return Score(found in [each.strip() for each in wanted], answer=found[-SHOWN:])


class _CheckCommand(BuiltIn):
    def problem(self, task: Task) -> str | None:
        if not task.check:
            return f"it has no check command (check), which the scorer {self.name} needs"
        if (
            not isinstance(task.check, str)
            and os.sep not in task.check[0]
            and not shutil.which(task.check[0])
        ):
            return f"its check command {task.check[0]!r} is not installed"
        return None

    async def __call__(self, trace: Trace, task: Task, workdir: Path) -> Score:
        check = task.check
        assert check is not None
        argv = ("bash", "-c", check) if isinstance(check, str) else check
        code, output = await run_command(sample_rollout.get(), argv, workdir)
        return Score(code == 0, explanation=f"exit status {code}\n{output}".strip())


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
"""Shell script that runs a Harbor task's tests. In its mount namespace, `/tests`, `/logs` and `/app` are the task's."""


class _HarborReward(BuiltIn):
    """Scorer that runs `tests/test.sh` of a Harbor task, and reads the reward that it writes."""

    def problem(self, task: Task) -> str | None:
        if "harbor" not in task.metadata:
            return f"it is no folder in Harbor's format, which the scorer {self.name} needs"
        return None

    async def __call__(self, trace: Trace, task: Task, workdir: Path) -> Score | dict[str, float]:
        source: Any = task.metadata["harbor"]
        with tempfile.TemporaryDirectory(prefix="triocept-") as name:
            root, tests, logs = (Path(name) / each for each in ("root", "tests", "logs"))
            for folder in (root, logs, logs / "verifier"):
                folder.mkdir()
            shutil.copytree(Path(source["folder"]) / "tests", tests)
            unshare = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
            argv = (*unshare, "bash", "-ec", _IN_HARBOR, "bash", *map(str, (root, tests, logs, workdir)))
            code, output = await run_command(sample_rollout.get(), argv, workdir, source.get("env"))
            return _reward(logs / "verifier", f"test.sh ended with status {code}\n{output}".strip())


def _reward(folder: Path, output: str) -> Score | dict[str, float]:
    """Return the reward that the tests of a Harbor task have written. Their exit status is no score."""
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
        raise NoScore(
            f"the reward of the tests is {rewards}, which is no finite number", reason="invalid_score"
        )
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


@dataclass(frozen=True)
class _ModelJudge(BuiltIn):
    model: Callable[[], Any]
    instructions: str
    template: str

    async def __call__(self, trace: Trace, task: Task, workdir: Path, *, answer: str) -> Score:
        target = "\n".join(task.targets) or "(none given)"
        prompt = self.template.format(
            prompt=task.prompt, target=target, answer=answer, instructions=self.instructions
        )
        try:
            async with AsyncExitStack() as stack:
                handler: Any = await awaited(self.model())
                if isinstance(handler, AbstractAsyncContextManager):
                    handler = await stack.enter_async_context(handler)
                check_handler(handler)
                judge = await stack.enter_async_context(open_unlimited_child(sample_rollout.get(), handler))
                said = (await judge.ask(prompt)).text
        except Exception as exc:
            raise NoScore(f"the judge's model failed: {text_of(exc)}", reason="grader_failed") from exc
        if not (grades := _GRADE.findall(said)):
            text = f"the judge gave no grade (a line GRADE: C, P or I): {said[-SHOWN:]!r}"
            raise NoScore(text, reason="grader_failed")
        return Score(_GRADES[grades[-1]], answer=answer.strip()[-SHOWN:], explanation=said)


def _cased(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text


def exact(*, ignore_case: bool = False, name: str = "exact") -> Scorer:
    """Return a scorer: 1 if the agent's answer is one of the task's targets, without white space around it."""
    return _Exact(name, ignore_case)


def includes(*, ignore_case: bool = True, name: str = "includes") -> Scorer:
    """Return a scorer: 1 if the agent's answer contains one of the task's targets."""
    return _Includes(name, ignore_case)


def regex(pattern: str | None = None, *, ignore_case: bool = False, name: str = "regex") -> Scorer:
    """Return a scorer: 1 if the regular expression matches in the agent's answer. None means the task's targets.

    `^` and `$` match at each line.

    Raises:
        re.error: the pattern is not a regular expression.
    """
    if pattern is not None:
        re.compile(pattern)
    return _Regex(name, ignore_case, pattern)


def file_content(path: str, content: str | None = None, *, name: str = "file") -> Scorer:
    """Return a scorer: 1 if a file of the working directory has this content, without white space around it.

    Args:
        path: path of the file in the working directory. The score is 0 if there is no such file.
        content: the content; None means one of the task's targets.
        name: name of the score.
    """
    return _FileContent(name, path, content)


def check_command(*, name: str = "check") -> Scorer:
    """Return a scorer: 1 if the task's check command ends with status 0, else 0.

    The command runs in the agent's working directory. Its output is the score's explanation.
    """
    return _CheckCommand(name)


def harbor_reward(*, name: str = "reward") -> Scorer:
    """Return a scorer of tasks in Harbor's format: it runs `tests/test.sh`, and reads `reward.json` or `reward.txt`.

    The tests run on this machine. They see the task's `/tests`, empty `/logs/verifier`, and the agent's working
    directory as `/app`; this needs Linux and its command `unshare`.
    """
    return _HarborReward(name)


def model_judge(
    model: Callable[[], Any],
    *,
    instructions: str = "",
    template: str = JUDGE,
    name: str = "judge",
) -> Scorer:
    """Return a scorer that lets a model grade the agent's answer: correct 1, partly correct 0.5, incorrect 0.

    The judge is a child of the sample's rollout: its prompt, answer and cost are in the trace. If the model fails or
    gives no grade, the sample has no score.

    Args:
        model: a function without arguments that returns a handler, or a context of one, for example
            `partial(open_upstream, url, dialect="openai_chat", model="judge")`.
        instructions: further instructions for the judge.
        template: prompt of the judge, with `{prompt}`, `{target}`, `{answer}` and `{instructions}`. The judge must end
            with `GRADE: C`, `GRADE: P` or `GRADE: I`.
        name: name of the score.
    """
    return _ModelJudge(name, model, instructions, template)
