"""List the export formats by name, and write exports. If an export fails, no incomplete file remains.

An export is first written next to its final path, under a name that begins with a dot. The export gets its final name
when it is complete and on the disk. An existing file is replaced only with `replace=True`. Folders, devices
(`/dev/null`), pipes and everything else that is not a regular file are never replaced. If the path is a link, the file
to which the link points is replaced.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import IO, TypeAlias, final

from .._trace.trace import Trace
from .._util.checks import check_type
from ._shared import Losses
from .atif import write_atif
from .fine_tuning import write_fine_tuning
from .flat import write_flat, write_parquet
from .har import write_har
from .html import write_html
from .inspect_log import write_inspect
from .otlp import write_otlp, write_otlp_with_content
from .verifiers import write_verifiers

WriteFile: TypeAlias = Callable[..., None]
"""A function with the arguments `(traces, file, losses)`. For a format with a reward, it also has the argument
`reward=`."""
WriteFolder: TypeAlias = Callable[[Iterable[Trace], Path, Losses], None]


@final
@dataclass(frozen=True, kw_only=True)
class Format:
    """The name of an export format, and the function that writes an export in this format."""

    name: str
    what: str
    """Short description of the format, for lists of formats."""
    write: WriteFile | None = None
    """Function that writes the export into one file; None if the format has several files."""
    write_folder: WriteFolder | None = None
    """Function that writes the export's files into a folder; None if the format has one file."""
    takes_reward: bool = False
    """True if `write` has a parameter `reward`: the name of the score that becomes the reward."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        each.name: each
        for each in (
            Format(name="jsonl", what="a flat row for each turn, for jq, pandas, datasets", write=write_flat),
            Format(name="parquet", what="the rows of jsonl, with a schema", write=write_parquet),
            Format(name="openai", what="OpenAI's fine-tuning JSONL", write=write_fine_tuning),
            Format(name="verifiers", what="episodes of verifiers", write=write_verifiers, takes_reward=True),
            Format(name="inspect", what="a log of Inspect, for its viewer", write=write_inspect),
            Format(name="atif", what="trajectories of ATIF 1.8, a folder", write_folder=write_atif),
            Format(name="har", what="an HTTP archive, for proxies and browsers", write=write_har),
            Format(
                name="html", what="one page that shows everything, to open in a browser", write=write_html
            ),
            Format(name="otlp", what="spans of OpenTelemetry, as OTLP/JSON", write=write_otlp),
            Format(
                name="otlp-content",
                what="the spans of otlp, with the full content of messages and answers",
                write=write_otlp_with_content,
            ),
        )
    }
)
"""The export formats, by their names."""
RESULT_FORMATS = ("inspect", "verifiers", "harbor")
"""Names of the formats that can contain the results of an evaluation: samples of tasks, with their scores."""


def write_export(
    traces: Iterable[Trace],
    to: str,
    path: str | Path,
    *,
    replace: bool = False,
    losses: Losses | None = None,
    reward: str | None = None,
) -> Losses:
    """Write traces in another format. An error leaves no incomplete export.

    Args:
        traces: traces of any number of rollouts.
        to: the format, one of `FORMATS`.
        path: path of the new file; for `atif`, path of the new folder.
        replace: if True, an existing file is replaced. A folder is never replaced.
        losses: counter of content that the format cannot express. If None, a new counter is created.
        reward: only for the format `verifiers`: name of the score that is the reward. All other scores are metrics. If
            None, and the scores of all rollouts have the same name, that score is the reward. If None, and there are
            several names, all scores are metrics, and a warning is issued.

    Returns:
        The counter `losses`, or the new counter.

    Raises:
        ValueError: the format is unknown; `reward` is passed for a format without a reward; or no rollout has a score
            with this name.
        FileExistsError: `path` exists, and `replace` is False or `path` is not a file.
        OSError: the export cannot be written.
        ModuleNotFoundError: the format needs a package that is not installed; the message names it.
    """
    check_type("to", to, str, "the name of a format, a str")
    if (found := FORMATS.get(to)) is None:
        raise ValueError(f"unknown format {to!r}; the formats are {', '.join(FORMATS)}")
    if reward is not None and not found.takes_reward:
        raise ValueError(f"reward={reward!r} needs the format verifiers, not {to}")
    losses = losses if losses is not None else Losses()
    if found.write_folder is not None:
        with new_folder(Path(path)) as folder:
            found.write_folder(traces, folder, losses)
    if found.write is not None:
        with new_file(Path(path), replace=replace) as file:
            write = found.write if reward is None else partial(found.write, reward=reward)
            write(traces, file, losses)
    return losses


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Open a new file. After the block, the file gets the name `path`; if the block raises, the file is removed.

    If `path` exists, raise FileExistsError, except if it is a regular file and `replace` is True. If `replace` is True
    and `path` is a folder, raise IsADirectoryError.
    """
    _check_place(path, replace=replace)
    if replace:
        path = Path(os.path.realpath(path))
    beside = _beside(path)
    try:
        with _naming(beside, path), open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            if replace:
                os.replace(beside, path)
            else:
                os.link(beside, path)  # unlike a rename, a link fails if the path now exists
        except FileExistsError as exc:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from exc
        except OSError:  # a file system without links
            if replace:
                raise
            os.replace(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Create a folder. After the block, the folder gets the name `path`; if the block raises, the folder is removed.

    Raise FileExistsError if `path` exists.
    """
    _check_place(path, replace=False)
    beside = _beside(path)
    with _naming(beside, path):
        beside.mkdir()
    try:
        yield beside
        _check_place(path, replace=False)
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.{token_hex(4)}.part")


def _check_place(path: Path, *, replace: bool) -> None:
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if os.path.lexists(path):
        if not replace:
            words = f"{os.strerror(errno.EEXIST)}; pass replace=True to replace it"
            raise FileExistsError(errno.EEXIST, words, str(path))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not path.is_file():
            raise FileExistsError(
                errno.EEXIST, "it is not a regular file, so triocept does not replace it", str(path)
            )


@contextmanager
def _naming(beside: Path, path: Path) -> Iterator[None]:
    """Replace the temporary path `beside` by `path` in the name of an OSError that the body raises.

    The caller of the export knows only `path`, not the temporary path.
    """
    try:
        yield
    except OSError as exc:
        if exc.filename in (None, str(beside), beside) and exc.errno is not None:
            raise type(exc)(exc.errno, exc.strerror, str(path)) from exc
        raise
