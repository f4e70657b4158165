"""Convert a cassette to one JSON document and back, merge it with a new recording, and read and write its file.

Rules:

1. A tool that several calls offer is written once, under its name. If a call continues an earlier call, the file
   contains only the new messages of the call, and the number of the earlier call.
2. The number of a call identifies it, and is not its position: if a call changes, all other calls keep their numbers.
   Calls that are recorded again keep their numbers and their order, because the order of concurrent calls is random.
3. If a call is recorded again and the content of its answer is the same, the previous answer is kept. Otherwise times
   and lengths of pieces in the file would change although the content did not.
4. If several writers add to a file, no call is lost. Each writer adds only the calls that the file does not contain,
   because all writers may have recorded the same first calls.
5. The content is written to a second file, which is forced to the disk and renamed. So a reader always reads one
   complete version. A writer that first reads the file holds a lock from the read to the end of the write.
6. The last line marks the end of the file. A file without this line was truncated.
7. Errors in an edited cassette name the problem and the line.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import token_hex

import msgspec

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._util.disk import sync
from ..._util.documents import Node, decoded, read_yaml
from ..._util.unicode import mended
from ..play import Answer, same_content
from ..yaml_writer import write_yaml
from .answer_form import answer_form, read_answer
from .request_form import normal_form, restored

VERSION = 1
_REQUEST = ("model", "continues", "messages", "tools", "tool_choice", "output", "sampling")
_encode = msgspec.json.Encoder(order="deterministic").encode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A call in a cassette, and its outcome."""

    number: int
    """Number of the call in the file."""
    form: dict[str, Json]
    """The request as it is compared and written: see `request_form.normal_form`."""
    answer: Answer
    line: int | None = None
    """Line number of the call in the file; None if the call is new."""


def document_of(calls: Sequence[Recorded]) -> dict[str, Json]:
    """Return the JSON document of a cassette that contains `calls`, in this order."""
    names = _ToolNames()
    entries: list[Json] = []
    for place, call in enumerate(calls):
        names.add(call.form.get("tools", ()))
        request: dict[str, Json] = {"model": call.form["model"]}
        messages = call.form["messages"]
        if (head := _continued_call(messages, calls[:place])) is not None:
            request["continues"] = head.number
            messages = messages[len(head.form["messages"]) :]
        request["messages"] = messages
        if "tools" in call.form:
            request["tools"] = [names.of(tool) for tool in call.form["tools"]]
        request |= {name: value for name, value in call.form.items() if name not in request}
        entries.append({"call": call.number, "request": request, "answer": answer_form(call.answer)})
    document: dict[str, Json] = {"cassette": VERSION}
    if names.table:
        document["tools"] = dict(sorted(names.table.items()))
    return {**document, "calls": entries}


def _continued_call(messages: Json, before: Sequence[Recorded]) -> Recorded | None:
    """Return the longest call in `before` whose messages are the beginning of `messages`; None without such a call."""
    found: Recorded | None = None
    for call in before:
        length = len(call.form["messages"])
        if (
            (0 if found is None else len(found.form["messages"])) < length < len(messages)
            and messages[length - 1] == call.form["messages"][-1]
            and messages[:length] == call.form["messages"]
        ):
            found = call
    return found


class _ToolNames:
    """The names under which the document of a cassette contains the tools of its calls.

    If several tools have the same name, a number is appended to this name for each of them except the first.
    """

    def __init__(self) -> None:
        self.table: dict[str, Json] = {}
        self._names: dict[bytes, str] = {}

    def add(self, tools: Sequence[dict[str, Json]]) -> None:
        for tool in tools:
            key = _encode(tool)
            if key in self._names:
                continue
            first = name = str(tool["name"] or tool.get("opaque", {}).get("type") or "tool")
            number = 1
            while name in self.table:
                number += 1
                name = f"{first} ({number})"
            self._names[key] = name
            self.table[name] = {
                part: value for part, value in tool.items() if (part, value) != ("name", name)
            }

    def of(self, tool: dict[str, Json]) -> str:
        return self._names[_encode(tool)]


def read_document(
    document: Node, form_of: Callable[[Request], dict[str, Json]] = normal_form
) -> list[Recorded]:
    """Return the calls that the document of a cassette contains.

    Args:
        document: the document.
        form_of: function that returns the form of a request.

    Raises:
        DialectError: this version cannot read the document; the text names the place.
    """
    if not isinstance(document.value, dict) or "cassette" not in document.value:
        raise document.error("this file is not a cassette: it does not begin with `cassette: 1`")
    version = document.value["cassette"]
    if version.count(1) > VERSION:
        raise version.error(
            f"this cassette has format {version.value}, written by a newer triocept; this version reads format "
            f"{VERSION}"
        )
    members = document.mapping("cassette", "tools", "calls")
    if "calls" not in members:
        raise document.error("the file has no `calls`: is the rest of the file missing?")
    tools = members["tools"].mapping() if "tools" in members else {}
    found: dict[int, Recorded] = {}
    messages: dict[int, list[Node]] = {}
    for node in members["calls"].items():
        number, request, answer = _read_call(node, tools, messages)
        if number in found:
            raise node.error(f"the file contains call {number} twice, first on line {found[number].line}")
        found[number] = Recorded(number=number, form=form_of(request), answer=answer, line=node.line)
    return list(found.values())


def _read_call(
    node: Node, tools: dict[str, Node], before: dict[int, list[Node]]
) -> tuple[int, Request, Answer]:
    """Return the number, the request and the answer of the call that `node` describes.

    `before` contains, for each earlier call by its number, all messages of that call.
    """
    members = node.mapping("call", "request", "answer")
    if missing := [member for member in ("call", "request", "answer") if member not in members]:
        raise node.error(f"this call has no {missing[0]!r}, which every call needs")
    number = members["call"].count(1)
    request = members["request"].mapping(*_REQUEST)
    if "messages" not in request:
        raise members["request"].error("this request has no messages, which every request needs")
    messages = list(request["messages"].items())
    if (continues := request.get("continues")) is not None:
        if continues.count(1) not in before:
            raise continues.error(
                f"this call continues call {continues.value}, but no call with this number comes before it"
            )
        messages = [*before[continues.value], *messages]
    offered: list[Node] = []
    for name in request["tools"].items() if "tools" in request else ():
        if (tool := tools.get(name.text())) is None:
            raise name.error(f"there is no tool {name.value!r} among the `tools` at the head of the file")
        place = tool.file, tool.line, tool.path
        offered.append(Node(*place, {"name": Node(*place, name.value), **tool.mapping()}))
    before.setdefault(number, messages)
    return number, restored(members["request"], messages, offered), read_answer(members["answer"])


def merged(
    old: Sequence[Recorded], new: Sequence[Recorded], key: Callable[[Recorded], bytes]
) -> list[Recorded]:
    """Return the calls of a new recording, each with its number in the file.

    A call that is also in `old` keeps its previous number. Such calls also keep their previous order.

    Args:
        old: calls of the previous recording.
        new: calls of the new recording, whose numbers are ignored.
        key: function that returns equal results for equal calls.
    """
    waiting: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for number, call in enumerate(old):
        waiting[key(call)].append(number)
    places = [waiting[key(call)].popleft() if waiting[key(call)] else None for call in new]
    again = iter(sorted((place, number) for number, place in enumerate(places) if place is not None))
    kept: list[Recorded] = []
    for call, place in zip(new, places, strict=True):
        if place is None:
            kept.append(msgspec.structs.replace(call, number=0))
        else:
            number, now = next(again)
            before, call = old[number], new[now]
            answer = before.answer if same_content(before.answer, call.answer) else call.answer
            kept.append(msgspec.structs.replace(call, number=before.number, answer=answer))
    return numbered(kept)


def added(
    there: Sequence[Recorded],
    old: Sequence[Recorded],
    new: Sequence[Recorded],
    key: Callable[[Recorded], bytes],
) -> list[Recorded]:
    """Return the calls that the file contains, followed by the calls of a recording that the file lacks.

    Another writer may have added calls to the file since the recording began.

    Args:
        there: calls that the file contains now.
        old: calls that the file contained when the recording began.
        new: calls of the recording, whose numbers are ignored.
        key: function that returns equal results for equal calls.
    """
    spare = Counter(map(key, there))
    spare.subtract(map(key, old))
    lacking = []
    for call in new:
        if spare[key(call)] > 0:
            spare[key(call)] -= 1
        else:
            lacking.append(msgspec.structs.replace(call, number=0))
    return numbered([*there, *lacking])


def numbered(calls: Sequence[Recorded]) -> list[Recorded]:
    """Return `calls`. Give each call with the number 0 the lowest number that no other call has."""
    taken = {call.number for call in calls}
    free = (number for number in count(1) if number not in taken)
    return [call if call.number else msgspec.structs.replace(call, number=next(free)) for call in calls]


_HEAD = """\
# triocept recorded these model calls and their answers. A later call with the same content gets the recorded answer.
"""
_END = "..."
"""Line that marks the end of a YAML document."""
_PATIENCE = 5.0
"""Maximum seconds to wait for the lock of a folder. Normally, another writer holds the lock for milliseconds."""


def text_of(document: Json) -> str:
    return f"{_HEAD}{write_yaml(mended(document))}{_END}\n"


def read_file(
    path: Path, name: str, form_of: Callable[[Request], dict[str, Json]] = normal_form
) -> list[Recorded]:
    text = decoded(path.read_bytes(), name)
    document = read_yaml(text, name)
    if not text.rstrip().endswith(f"\n{_END}"):
        raise Node(name, text.rstrip().count("\n") + 1, "", None).error(
            f"the file does not end with a line `{_END}`: is the rest of the file missing?"
        )
    return read_document(document, form_of)


def name_of_at_most(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def check_place(path: Path) -> None:
    """Raise OSError if no file can be written at `path`. A cassette calls this function before it records a call."""
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Create `folder` if it is missing, and lock it exclusively while the `with` block runs.

    If the file system does not support locks, the folder is not locked.

    Raises:
        OSError: the folder cannot be created, or cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: the last writer wins
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _PATIENCE
        with suppress(OSError):  # a file system without locks
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Replace the content of the file at `path` by `text`. Create its folders if they are missing.

    Raises:
        OSError: the file cannot be written; the error names it. Its previous content is then unchanged.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    beside = target.with_name(f".{name_of_at_most(target.name, 100)}.{token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException as exc:
        with suppress(OSError):
            beside.unlink()
        if isinstance(exc, OSError) and exc.errno is not None:
            raise OSError(exc.errno, exc.strerror, str(path)) from exc
        raise
    with suppress(OSError):  # Windows and some file systems do not support it
        sync(target.parent)
