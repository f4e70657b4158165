"""Write OpenAI's JSONL for fine-tuning, with one line for each thread of a trace, and check such lines.

Rules:

1. A line contains a thread (see `trace.threads`) up to its last answer: the messages, the answer, and the tools.
2. An answer is trained on only in the first line that contains it. In every further line, it has `"weight": 0`. Two
   other kinds of messages also have weight 0. The first are messages of the model that no call of this rollout
   produced, such as examples in a prompt. The second are answers with a tool call whose arguments are not a JSON
   object; these arguments stay as the model wrote them.
3. A thread without a message to train on has no line, for example if no call was answered, or if the only answer is
   empty.

No package has a type or a validator for these lines, so `check_fine_tuning` is triocept's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO

from .._canonical.content import Json, Message
from .._trace.trace import Trace
from .._trace.turn import Turn
from ..dialects.kit import decode_json
from ..errors import DialectError
from ._chat import Chat, answer_of, is_object
from ._shared import Losses, Lost, count_lost, json_line

_LOST = (
    *(Lost.SERVICE_CALLS, Lost.FAILED_CALLS, Lost.RECORDS, Lost.CONVERSATIONS, Lost.TOKENS, Lost.USAGE),
    *(Lost.SCORES, Lost.METADATA, Lost.NOTES, Lost.INCREMENTS, Lost.WIRE),
)


def fine_tuning_lines(trace: Trace, losses: Losses | None = None) -> Iterator[dict[str, Json]]:
    """Yield each thread of a trace as a training example: `{"messages": […], "tools": […]}`.

    Args:
        trace: the trace.
        losses: counter of content that a line cannot express; None means that such content is not counted.
    """
    losses = losses if losses is not None else Losses()
    count_lost(losses, trace, *_LOST, settings=("parallel_tool_calls",))
    chat = Chat(losses, media=True, reasoning=False, errors=False)
    trained: set[str] = set()
    # each thread up to its last answer, without threads that are the beginning of another thread
    threads = [
        tuple(turn for turn in thread if turn.outcome == "answered" and turn.response is not None)
        for thread in trace.threads
    ]
    inner = {turn.id for thread in threads for turn in thread[:-1]}
    last = {thread[-1].id: thread for thread in threads if thread}
    for answered in (thread for id_, thread in last.items() if id_ not in inner):
        line = _line(answered, trained, chat)
        trained.update(turn.id for turn in answered)
        if any(map(_is_trained, line["messages"])):
            yield line


def write_fine_tuning(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    for trace in traces:
        for line in fine_tuning_lines(trace, losses):
            file.write(json_line(line))


def _line(answered: Sequence[Turn], trained: set[str], chat: Chat) -> dict[str, Json]:
    last = answered[-1]
    assert last.response is not None
    new = set()  # runs of model messages that an answer begins or continues
    for messages in (turn.request.messages for turn in answered if turn.id not in trained):
        run = max((place for _, place in _with_places(messages)), default=-1)
        new.add(run if messages and messages[-1].role == "assistant" else run + 1)
    documents: list[dict[str, Json]] = []
    called: set[Json] = set()
    for message, place in _with_places((*last.request.messages, answer_of(last.response))):
        for document in chat.message(message):
            if document["role"] == "assistant":
                is_new = place in new and bool(document["content"] or document.get("tool_calls"))
                if is_new and not _has_object_arguments(document):
                    chat.losses.add(Lost.NO_OBJECTS)
                if not is_new or not _has_object_arguments(document):
                    document["weight"] = 0
            called.update(call["id"] for call in document.get("tool_calls", ()))
            if document["role"] == "tool" and document["tool_call_id"] not in called:
                # its call is missing, for example after a compaction
                chat.losses.add(Lost.LATE_RESULTS)
                document = {"role": "user", "content": document["content"]}
            documents.append({name: value for name, value in document.items() if name != "name"})
    line: dict[str, Json] = {"messages": documents}
    if tools := chat.tools(last.request.tools):
        line["tools"] = tools
        if last.request.parallel_tool_calls is not None:
            line["parallel_tool_calls"] = last.request.parallel_tool_calls
    return line


def _with_places(messages: Iterable[Message]) -> Iterator[tuple[Message, int]]:
    """Yield each message with the index of a group of adjacent messages of the model.

    For a message of the model, the index is that of its own group. For any other message, it is that of the latest
    group before the message, or -1 if no group is before it.
    """
    run, inside = -1, False
    for message in messages:
        is_answer = message.role == "assistant"
        run += is_answer and not inside
        inside = is_answer
        yield message, run


def _has_object_arguments(document: Mapping[str, Json]) -> bool:
    return all(is_object(call["function"]["arguments"]) for call in document.get("tool_calls", ()))


def check_fine_tuning(lines: Iterable[bytes | str]) -> list[str]:
    """Return the problems in a fine-tuning file, as texts like `3: messages[2].tool_call_id: …`.

    Each text begins with the number of the line and the path of the field in the line.

    A valid line is an object with `messages`:

    * Each message has a role, and the fields of this role.
    * The last message is the model's, and at least one message of the model is trained on (its weight is not 0).
    * A tool result comes after a tool call with the same id.
    * In messages that are trained on, the arguments of tool calls are JSON objects, as text.

    Raises:
        TypeError: `lines` is a single str or bytes object, not an iterable of lines.
    """
    if isinstance(lines, bytes | str):
        raise TypeError(
            "check_fine_tuning takes the lines of a file, not one text: pass path.read_bytes().splitlines()"
        )
    problems = []
    for number, line in enumerate(lines, 1):
        try:
            document = decode_json(line)
        except DialectError as exc:
            problems.append(f"{number}: {exc}")
            continue
        problems += [f"{number}: {problem}" for problem in _problems(document)]
    return problems


def _problems(line: Json) -> Iterator[str]:
    messages = line.get("messages") if isinstance(line, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        yield "messages: must be a list of objects"
        return
    called: set[Json] = set()
    for number, message in enumerate(messages):
        yield from (f"messages[{number}]{problem}" for problem in _of_message(message, called))
    if not messages or messages[-1].get("role") != "assistant":
        yield "messages: the last message must be the model's"
    elif not any(_is_trained(message) for message in messages):
        yield "messages: every message of the model has weight 0"
    for number, tool in enumerate(line.get("tools") or ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            yield f"tools[{number}].function.name: must be a text"


def _of_message(message: Mapping[str, Json], called: set[Json]) -> Iterator[str]:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant", "tool"):
        yield f".role: must be system, user, assistant or tool, not {role!r}"
    elif role == "assistant":
        calls = message.get("tool_calls") or ()
        if not content and not calls and message.get("weight") != 0:
            yield ".content: must not be empty if no tool is called"
        if message.get("weight", 1) not in (0, 1):
            yield ".weight: must be 0 or 1"
        for number, call in enumerate(calls):
            called.add(call.get("id"))
            function = call.get("function") or {}
            if not isinstance(function.get("name"), str) or call.get("type") != "function":
                yield f".tool_calls[{number}]: must be the call of a function"
            arguments = function.get("arguments")
            if not isinstance(arguments, str) or not (is_object(arguments) or message.get("weight") == 0):
                yield f".tool_calls[{number}].function.arguments: must be a JSON object, as text"
    elif not isinstance(content, str | list):
        yield ".content: must be a text, or a list of parts"
    if role == "tool" and message.get("tool_call_id") not in called:
        yield ".tool_call_id: no earlier message contains a call with this id"
    if role != "assistant" and "weight" in message:
        yield ".weight: only messages of the model may have a weight"


def _is_trained(message: Mapping[str, Json]) -> bool:
    return message.get("role") == "assistant" and message.get("weight", 1) != 0
