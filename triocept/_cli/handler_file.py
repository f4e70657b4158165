"""`--handler FILE:NAME`: loads a handler from a Python file.

Rules:

1. If NAME is a function or class that can be called without arguments, triocept calls it once for each rollout. The
   result must be the handler, or a context manager that yields the handler. Any other object NAME is the handler
   itself.
2. The file is run once in each process. The file can import modules from its own directory: while the file runs, this
   directory comes before installed packages.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from inspect import isclass, isroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import trio

from .._process.environment import is_provider_variable
from .._rollout.functions import awaited
from .._rollout.handler import check_handler
from .._util.checks import takes
from .forward import Forward
from .options import F, Option, did_you_mean
from .script import Answers, Model, Script, imports_beside


@dataclass(frozen=True)
class HandlerFile:
    path: Path
    name: str
    variables: tuple[str, ...] = ()
    """Names of environment variables to hide from the agent (see `Forward`). A handler in a file hides none."""
    option: str = "--handler"
    """The option that names the file."""

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Answers]:
        """Open the handler that the Python file contains.

        Raises:
            click.UsageError: the file has a syntax error, or does not contain the handler.
            Exception: the file's own code raised an exception.
        """
        await trio.lowlevel.checkpoint()
        with _noted(self.path):
            found = self.load_function()
        is_made = callable(found) and takes(found, 0)
        async with AsyncExitStack() as stack:
            if is_made:
                with _noted(self.path):
                    found = await awaited(found())
                if isinstance(found, AbstractAsyncContextManager):
                    found = await stack.enter_async_context(found)
            try:
                check_handler(found)
            except TypeError as exc:
                text = str(exc)
                if is_made and found is None:
                    text = (
                        f"{self.name} takes no argument, so triocept called it to get the handler, and it returned "
                        f"None: return the handler, or, if {self.name} itself is the handler, write `async def "
                        f"{self.name}(exchange)`"
                    )
                if isinstance(found, list | tuple):
                    text = f"{self.name} is a list of replies, and no handler: write --script {self.path}"
                raise click.UsageError(f"--handler {self}: {text}") from None
            yield Answers(found)

    def load_function(self) -> Any:
        """Return the object with the name `self.name` in the file. The file is run only once in a process."""
        names = vars(_module(self.path, self.option))
        if self.name not in names:
            public = [name for name, value in names.items() if _is_own(name, value, names["__name__"])]
            there = (
                f"; it defines {', '.join(public)}"
                if public
                else "; it defines no function, class or handler"
            )
            hint = did_you_mean(self.name, public) or there
            raise click.UsageError(f"{self.option} {self}: there is no {self.name!r} in {self.path}{hint}")
        return names[self.name]


@contextmanager
def _noted(path: Path) -> Iterator[None]:
    """Add a note to a KeyError about a variable that only agents get: the file is probably an agent."""
    try:
        yield
    except KeyError as exc:
        if exc.args and is_provider_variable(str(exc.args[0])):
            exc.add_note(f"If {path} is the agent, write it after --, as in: triocept run -- python {path}")
        raise


def _is_own(name: str, value: object, module: str) -> bool:
    """Return True if `value`, the object `name` of the file, is a public handler that the file itself defines."""
    imported = isroutine(value) or isclass(value)
    return callable(value) and not name.startswith("_") and (not imported or value.__module__ == module)


@cache
def _module(path: Path, option: str) -> ModuleType:
    other = PathFinder.find_spec(path.stem)  # a module that the name of the file must not hide
    is_taken = path.stem in sys.modules or (other is not None and other.origin != str(path.resolve()))
    name = f"{path.stem}_handler" if is_taken else path.stem
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses of the file look it up
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as exc:
        raise click.UsageError(f"{option} {path}, line {exc.lineno}: {exc.msg}") from None
    with imports_beside(path):
        exec(code, module.__dict__)
    return module


def _parse(context: click.Context, option: click.Parameter, text: str | None) -> HandlerFile | None:
    if text is None:
        return None
    file, colon, name = text.rpartition(":")
    if not colon:
        raise click.BadParameter(f"the name of the handler is missing in {text!r}: write {text}:NAME")
    module = Path(*file.split(".")).with_suffix(".py")
    if not Path(file).exists() and not file.endswith(".py") and module.is_file():
        raise click.BadParameter(
            f"{file!r} is the name of a module: write the path of its file, {module}:{name}"
        )
    click.Path(exists=True, dir_okay=False).convert(file, option, context)
    if not file.endswith(".py"):
        raise click.BadParameter(f"{file!r} is not a Python file (*.py); for a script, use --script")
    if not name.isidentifier():
        raise click.BadParameter(f"{name!r} is not a Python name: write {file}:NAME")
    return HandlerFile(Path(file), name)


handler_option: Callable[[F], F] = click.option(
    "--handler",
    cls=Option,
    group="Model",
    type=click.Path(),
    callback=_parse,
    metavar="FILE:NAME",
    help="Answer with a handler from a Python file. NAME is the handler, or a function without arguments that returns "
    "the handler.",
)


def one_model(script: Script | None, handler: HandlerFile | None, forward: Forward | None) -> Model | None:
    given = {"--script": script, "--handler": handler, "--upstream": forward}
    names = [name for name, model in given.items() if model is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} exclude each other: give only one of them")
    return script or handler or forward
