"""Base classes of commands and options (options in groups, hints for mistyped names), and shared options."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from math import inf, nan
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from .._trace.redaction import Redaction
from .._upstream.address import is_near, parse_address
from .._util.checks import REMOVED
from .ending import in_options
from .install import INSTALL

_SAME = {
    **dict.fromkeys(("--url", "--base-url", "--api-base"), ("--upstream",)),
    **dict.fromkeys(("--parallel", "--concurrency", "-j"), ("--slots-per-worker",)),
    "--api-key": ("--api-key-env",),
    "--budget": ("--max-cost",),
    "--format": ("--to", "--json"),
    "--out": ("--output", "--record"),
    "--provider": ("--upstream-dialect",),
    "--temperature": ("--sampling",),
    "--timeout": ("--rollout-timeout", "--max-seconds"),
}
"""Names of options in other programs, each with triocept's options of the same meaning."""
_START = b'{"type":"'
"""The first bytes of every line of a trace."""
F = TypeVar("F", bound=Callable[..., Any])
if TYPE_CHECKING:
    _TextChoice = click.Choice[str]
else:
    _TextChoice = click.Choice


def similar(text: str, names: Iterable[str]) -> list[str]:
    """Return at most two of `names`, which are the most similar to the mistyped name `text`."""
    by_form = {name.lower().replace("_", "-"): name for name in names}
    form = text.lower().replace("_", "-")
    near = (
        [form]
        if form in by_form
        else [name for name in by_form if len(form) > 4 and name.startswith(form)][:2]
    )
    near = near or get_close_matches(form, by_form, n=2)
    near = near or [name for name in by_form if len(form) > 2 and form in name]
    return [by_form[name] for name in near]


def did_you_mean(text: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return a hint that suggests the names that are similar to the mistyped name `text`.

    If no name is similar, return `otherwise`.
    """
    near = similar(text, names)
    return f"; did you mean {' or '.join(near)}?" if near else otherwise


class Option(click.Option):
    """An option that the command's help lists in the given group of options."""

    def __init__(self, *args: Any, group: str = "Other options", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert the value. Raise click.UsageError if the value is `--` or the name of an option of the command."""
        names = {"--", *(name for each in ctx.command.params for name in each.opts if name.startswith("-"))}
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, str) and each in names:
                raise click.UsageError(
                    f"{self.opts[0]} needs a value ({self.make_metavar(ctx)}) before {each}", ctx
                )
        return super().type_cast_value(ctx, value)


@contextmanager
def _hints(ctx: click.Context) -> Iterator[None]:
    """Add a hint to click's error for an unknown option.

    The hint is the reason why the option was removed, the command that has the option, or a similar option.
    """
    try:
        yield
    except click.NoSuchOption as exc:
        name = exc.option_name
        mine = [option for each in ctx.command.get_params(ctx) for option in each.opts]
        others = ctx.find_root().command
        found = [
            f"triocept {command}"
            for command, each in (others.commands.items() if isinstance(others, click.Group) else ())
            if each is not ctx.command and any(name in option.opts for option in each.params)
        ]
        same = [option for option in _SAME.get(name, ()) if option in mine]
        if (gone := REMOVED.get(name.lstrip("-").replace("-", "_"))) is not None:
            hint = f"; it was removed, because {gone}"
        elif name == "-v":
            hint = "; to print the version: triocept --version"
        elif any(
            isinstance(each, click.Argument) and f"--{each.name}" == name for each in ctx.command.params
        ):
            hint = f"; {name[2:].upper()} is an argument: write its value alone, without {name}"
        elif same:
            hint = f"; did you mean {same[0]}?"
        elif found:
            hint = f"; it is an option of {', '.join(found[:-1])}{' and ' if found[1:] else ''}{found[-1]}"
        else:
            takes_agent = any(each.name == "command" for each in ctx.command.params)
            agents = f"; if {name} belongs to the agent's command, write -- before this command" * takes_agent
            hint = did_you_mean(name, mine, f"{agents}; {ctx.command_path} --help lists the options")
        raise click.UsageError(f"there is no option {name}{hint}", ctx) from None
    except click.UsageError as exc:
        if not exc.message.startswith("Got unexpected extra argument") or ctx.info_name != "serve":
            raise
        hint = "triocept serve starts no agent: to start one, use triocept run"
        raise click.UsageError(f"{exc.message}; {hint}", ctx) from None


class Command(click.Command):
    """A command whose help lists the options in groups. The groups are in the order of their first options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _hints(ctx):
            return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if (record := option.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(option, "group", "Other options"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title if len(groups) > 1 else "Options"):
                formatter.write_dl(records)


class Group(click.Group):
    """A command with subcommands, such as `triocept`. The error for an unknown subcommand suggests a similar name."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _hints(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            if name in ("version", "help"):
                ctx.fail(f"there is no command {name!r}; to print the {name}: triocept --{name}")
            hint = did_you_mean(name, self.commands)
            if not hint and (which(name) is not None or name in INSTALL):
                hint = f"; to run {name} as an agent: triocept run -- {' '.join(args)}"
            ctx.fail(f"there is no command {name!r}{hint or '; triocept --help lists the commands'}")
        return super().resolve_command(ctx, args)


class Choice(_TextChoice):
    """Type of an option: a name from a list, in which underscores count as hyphens.

    The error for a wrong name suggests a similar name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__([name.replace("_", "-") for name in names])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).replace("_", "-")
        if name not in self.choices:
            self.fail(f"{value!r} is not one of {self}{did_you_mean(value, self.choices)}", param, ctx)
        return name

    def get_missing_message(self, *args: Any, **options: Any) -> str:
        return f"Names: {self}"

    def __str__(self) -> str:
        return ", ".join(self.choices)


class WholeNumber(click.IntRange):
    """Type of an option: a whole number in a range."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        number = int(text) if re.fullmatch(r"[+-]?\d+", text, re.ASCII) else None
        least, most = int(self.min or 0), self.max
        if number is None or number < least or (most is not None and number > most):
            allowed = f"of {least} or more" if most is None else f"from {least} to {most:g}"
            self.fail(f"{text!r} is not a whole number {allowed}", param, ctx)
        return number


class PositiveNumber(click.FloatRange):
    """Type of an option: a finite number above 0."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not 0 < number < inf:
            self.fail(f"{str(value)!r} is not a number above 0; write a number without a unit", param, ctx)
        return number


class InputPath(click.Path):
    """Type of an option or argument: a path that is read. `missing` is the advice in the error if no path is given."""

    def __init__(self, missing: str, **settings: Any) -> None:
        super().__init__(path_type=Path, **settings)
        self.missing = missing

    def get_missing_message(self, *args: Any, **options: Any) -> str:
        return self.missing

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name of the file is empty", param, ctx)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as exc:
            path = Path(value)
            hint = "" if path.exists() else similar_file(path, "; correct the path")
            raise click.BadParameter(f"{exc.message.rstrip('.')}{hint}", ctx, param) from None


def similar_file(path: Path, otherwise: str) -> str:
    """Return the hint of an error about a missing file: the file with the most similar name.

    Only files in the same directory and with the same suffix are considered.

    If no name is similar, return `otherwise`.
    """
    near = similar(path.name, sorted(each.name for each in path.parent.glob(f"*{glob.escape(path.suffix)}")))
    return f"; did you mean {path.with_name(near[0])}?" if near else otherwise


class Argument(click.types.StringParamType):
    """Type of an argument: a text. `missing` is the end of the error if the argument is not given."""

    def __init__(self, missing: str) -> None:
        self.missing = missing

    def get_missing_message(self, *args: Any, **options: Any) -> str:
        return self.missing


class NewFile(click.Path):
    """Type of an option: a file to be written. If `parents` is False, the directory of the file must exist."""

    def __init__(self, *, dir_okay: bool = False, parents: bool = False) -> None:
        super().__init__(dir_okay=dir_okay, writable=True, path_type=Path, allow_dash=parents)
        self.parents = parents

    def get_missing_message(self, *args: Any, **options: Any) -> str:
        return "Name the file to write, as in -o FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name of the file is empty", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.parent
        if self.allow_dash and path == Path("-"):
            return path
        if self.parents:
            folder = next(each for each in path.parents if os.path.lexists(each))
        if not folder.is_dir():
            self.fail(f"{path}: there is no directory {folder}; create it, or name another file", param, ctx)
        if not path.exists() and not os.access(folder, os.W_OK | os.X_OK):
            self.fail(
                f"{path}: you have no permission to create a file in {folder}; name another file", param, ctx
            )
        return path


def base_url(text: str) -> str:
    """Return `text` as the base URL of a provider. Raise click.BadParameter if `text` is no URL."""
    try:
        base = parse_address(text).base
    except ValueError as exc:
        hint, name = "", text.strip()
        if "://" not in name and "@" not in name:
            scheme = "http" if is_near(urlsplit(f"//{name}").hostname or "") else "https"
            hint = f"; did you mean {scheme}://{name}?"
            if name != "localhost" and not set(".:/") & set(name):
                hint = "; write a URL such as https://api.openai.com/v1, and the name of a model with --model"
        raise click.BadParameter(f"{in_options(str(exc))}{hint}") from exc
    for path in ("/chat/completions", "/completions", "/responses", "/messages"):
        if base.endswith(path):
            raise click.BadParameter(
                f"{base} is the URL of one API method; give the base URL, {base.removesuffix(path)}"
            )
    return text


def add_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def variables_of(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for each in given:
        name, is_given, value = each.partition("=")
        if not name:
            raise click.BadParameter(f"{each!r} has no name: write NAME=VALUE")
        if not is_given and name not in os.environ:
            raise click.BadParameter(
                f"{name!r} is not set in this environment: set it, or write {name}=VALUE"
            )
        variables[name] = value if is_given else os.environ[name]
    return variables


def is_trace_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def check_tasks_file(path: Path) -> None:
    if path.is_file() and is_trace_file(path):
        raise click.UsageError(f"{path} is a trace file, and not a list of tasks: name a file of tasks")


def _record(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.is_file() and path.stat().st_size and not is_trace_file(path):
        raise click.BadParameter(
            f"{path} is not a trace file, and triocept does not append to other files; name another file"
        )
    return path


def existing_file(
    name: str, group: str, text: str, *, missing: str = "", **settings: Any
) -> Callable[[F], F]:
    kind = InputPath(missing, exists=True, dir_okay=False)
    return click.option(name, cls=Option, group=group, type=kind, metavar="FILE", help=text, **settings)


script_option = existing_file(
    "--script",
    "Model",
    "Answer from this script: a Python file that defines the variable 'replies', a YAML or JSON file that contains a "
    "list of replies, or a file of aimock's fixtures. Each rollout starts the script from its beginning. "
    "Without --script, --handler and --upstream, every call gets the same greeting as its answer.",
)


def _once(ctx: click.Context, param: click.Parameter, files: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files that the command line names. Return a file only once, even if several paths lead to it."""
    found: dict[str, Path] = {}
    for file in files:
        found.setdefault(os.path.realpath(file), file)  # a loop of links is an error later, with its name
    return tuple(found.values())


files_argument: Callable[[F], F] = click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=InputPath(
        "Name a trace file (`triocept run --record trace.jsonl` writes such a file), or the directory of a store"
    ),
    callback=_once,
)

_in_record = partial(click.option, cls=Option, group="Record")
record_option = _in_record(
    "--record",
    callback=_record,
    type=NewFile(),
    metavar="FILE",
    help="Append every turn to this file, as one line of JSON. Each turn is written before the agent receives the end "
    "of its answer.",
)
redact_option = _in_record(
    "--redact-known-keys",
    "redact",
    is_flag=True,
    callback=lambda _context, _option, known_keys: Redaction(known_keys=True) if known_keys else None,
    help="Record [redacted] in place of private keys, and in place of text that looks like a key of GitHub, AWS, "
    "OpenAI, Anthropic, Google, Slack and others. Without this option, only keys that triocept itself uses are "
    "redacted.",
)


def _host(context: click.Context, option: click.Parameter, host: str) -> str:
    if "://" in host or re.fullmatch(r"[^:]*:\d+", host):
        raise click.BadParameter(
            f"{host!r} is not only a host: write the host alone, and the port with --port"
        )
    return host


_in_endpoint = partial(click.option, cls=Option, group="Endpoint")
endpoint_options: Callable[[F], F] = add_options(
    _in_endpoint(
        "--host",
        default="127.0.0.1",
        show_default=True,
        metavar="HOST",
        callback=_host,
        help="Address to listen on.",
    ),
    _in_endpoint(
        "--port",
        default=0,
        show_default="a free port",
        type=WholeNumber(0, 65535),
        metavar="PORT",
        help="Port to listen on.",
    ),
)

view_option: Callable[[F], F] = _in_endpoint(
    "--view",
    is_flag=True,
    help="Serve a page on which you watch the run in a browser, and decide about the tool calls that wait for "
    "approval. The page's address, which contains its key, is printed on standard error.",
)
live_option: Callable[[F], F] = _in_endpoint(
    "--live",
    is_flag=True,
    help="Show the calls in a table on the terminal while they run, in place of a line for each call. The agent's own "
    "output is printed when it has ended. Without a terminal, a line for each call is printed.",
)
