"""Remove secrets from records. Keys are always removed; other texts are removed only by a program's `Redaction`.

Rules:

1. Keys are removed wherever they appear: every key that triocept created, and a provider's key while an upstream uses
   it (see `_util.secrets`). So a person who reads a trace cannot send calls with the agent's key. Other keys, such as a
   key that an agent reads from a file, are removed only with `Redaction(known_keys=True)`, and only in known forms.
2. A removed text is replaced by `[redacted]`. Only records are redacted: the trace in memory, and the records that
   recorders get. The messages between an agent and its model are unchanged.
3. Only texts are changed: contents, arguments and results of tools, a dialect's further members, metadata, notes, the
   agent's User-Agent header. Unchanged are roles, ids, the directories of an agent, names of members and of scores,
   numbers, and words of a fixed set (a stop reason, an effort). But keys are removed from all of these, too, because an
   agent may use its key as the name of its session.
4. Arguments are searched both as JSON text and decoded, because JSON can write a letter in several ways.
5. Token ids encode the text. So if an answer was redacted, its token ids and log probabilities are not recorded (gap
   `redacted`). If a request was redacted, the token ids of the prompt are not recorded (gap `prompt_redacted`).
6. A message is searched only once, in the first request that contains it. The other members of a request are searched
   only if they are not the same objects as in the previous request. (An agent repeats these members in every call, and
   dialects decode them once: see `memory`.)
7. If a program passes a `Redaction`, no bodies are recorded: neither the bodies of a call's HTTP traffic
   (`record_wire`) nor raw bytes.
8. A text file that is sent inline (`Media` of a type `text/*`, in UTF-8) is decoded and redacted, because one dialect
   sends such files as plain text, which triocept encodes. Apart from that, only JSON's escapes are decoded: a key
   within base64, hex or a similar encoding is not removed. A search for each key in each alignment of each encoding
   would make every call slower, and would still not be a guarantee.
9. The agent and the model always get the original texts; `as_given` restores them from a redacted record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from inspect import iscoroutinefunction
from operator import eq, is_
from typing import Any, TypeVar, final

import msgspec

from .._canonical.content import Message, Opaque, Part, Reasoning, RefusalText, Text, ToolCall, ToolResult
from .._canonical.memory import MessageTable
from .._canonical.request import Request, Tool
from .._canonical.response import Response
from .._canonical.text_file import text_as_data, text_in_file
from .._util.checks import check_bool, described
from .._util.secrets import LIVE_KEYS, MARK, cleaned_json, may_hold_a_key, without_keys
from .._util.unicode import mended_text
from .entries import AgentStart, Entry, Intent, Opening, Score
from .raw import RawResponse
from .tokens import Tokens
from .turn import ServiceCall, Turn
from .wire import WireView

T = TypeVar("T", bound=msgspec.Struct)

_NO_TEXT = frozenset(
    [
        *("part", "role", "id", "kind", "dialect", "media_type", "type", "outcome", "rollout", "run"),
        *("mode", "framing", "effort", "stop_reason", "previous_response", "continued_from", "service"),
    ]
)
"""Names of JSON members whose values are kinds or ids, so that they are not searched for texts."""
_GIVEN = frozenset({"arguments", "result", "metadata", "notes"})
"""Names of JSON members whose values come from the program or its tools. Every string in such a value is a text, even
if a member with a name in `_NO_TEXT` contains it."""
_WITH_BASE64 = frozenset({"media_type", "mime_type", "mimeType", "kind"})
"""Names of JSON members. If an object has one of them, the object's member `data` is base64."""
_JOINED = 64 * 1024
"""Maximum characters of a message for which all texts are joined, and searched in one step. For a longer message,
joining its texts takes longer than a search of each text."""
_IS_TEXT_FILE = b'"media_type":"text/'
_encode = msgspec.json.Encoder().encode


@final
class Redaction:
    """Defines the texts that are removed from all records. Keys in use are removed even without a `Redaction`.

    Args:
        patterns: regular expressions; each match is replaced by `[redacted]`.
        function: `(text) -> text`, for texts that no pattern can describe. triocept calls it with each complete text,
            and records the text that it returns. `function` must return the same result for the same text. `function`
            must not be async, because the model call waits for its result. If it raises an exception, the model call
            fails, the rollout's body ends, and no further text of that rollout is recorded.
        known_keys: if True, texts that look like a key of a known form (GitHub, AWS, OpenAI, Anthropic, Google, Slack,
            private keys in PEM, others) are removed, too. Base64 (images, signatures) is not searched, because random
            data may look like a key.

    Raises:
        TypeError: a pattern is neither a str nor a compiled pattern of one; `function` cannot be called, or is async;
            `known_keys` is not a bool.
        ValueError: a pattern is invalid; the error names it.
    """

    def __init__(
        self,
        patterns: Iterable[str | re.Pattern[str]] = (),
        *,
        function: Callable[[str], str] | None = None,
        known_keys: bool = False,
    ) -> None:
        if isinstance(patterns, (str, re.Pattern)):
            raise TypeError(f"Redaction needs a list of patterns: write Redaction([{patterns!r}])")
        compiled: list[re.Pattern[str]] = []
        for pattern in patterns:
            try:
                compiled.append(re.compile(pattern))
            except re.error as exc:
                raise ValueError(f"the pattern {pattern!r} of a Redaction is invalid: {exc}") from exc
            except TypeError:
                raise TypeError(f"a pattern must be a regular expression, not {described(pattern)}") from None
            if not isinstance(compiled[-1].pattern, str):
                raise TypeError(f"a pattern must be a regular expression, not {described(pattern)}")
        self._patterns = tuple(compiled)
        given: object = function
        if given is not None and (not callable(given) or iscoroutinefunction(given)):
            raise TypeError(
                f"function must be a function `(text) -> text` that is not async, not {described(given)}"
            )
        self._function = function
        check_bool("known_keys", known_keys)
        self.known_keys: bool = known_keys
        """True if texts that look like a key of a known form are removed, too."""

    def __repr__(self) -> str:
        said = [repr([pattern.pattern for pattern in self._patterns])] if self._patterns else []
        said += ["function=…"] * bool(self._function) + ["known_keys=True"] * self.known_keys
        return f"Redaction({', '.join(said)})"

    def text(self, text: str) -> str:
        """Return `text` with its secrets replaced, by the patterns, by `known_keys` (if set) and by the function."""
        return self._without_patterns(without_keys(text, known_forms=True) if self.known_keys else text)

    def _without_patterns(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(MARK, text)
        if self._function is None:
            return text
        found: object = self._function(text)
        if not isinstance(found, str):
            raise TypeError(f"the function of a Redaction must return a str, not {described(found)}")
        return mended_text(found)


class Redactor:
    """Removes keys and other texts from the records of one rollout.

    The redactor keeps the original texts, which `as_given` restores.

    Args:
        redaction: the program's redaction; if None, only keys in use are removed.
        keys: further keys to remove. A caller that passes `keys` must pass a `redaction`, too.
    """

    def __init__(self, redaction: Redaction | None = None, *, keys: Sequence[str] = ()) -> None:
        self._redaction = redaction
        self._keys = keys
        self._looked: tuple[object, ...] = (self,)
        """The fields (without messages) of the last searched request, and the keys that were in use during that
        search."""
        self._said = b""
        """JSON of those fields of the last searched request that a handler could change in place. (Requests share these
        objects.)"""
        self._tools: tuple[Tool, ...] = ()
        """The tools of the last searched request. They are searched again only if they change."""
        self._clean_tools: tuple[Tool, ...] = ()
        """The redacted form of `_tools`."""
        self._rest: Request | None = None
        """The redacted form of the last searched request, without messages; None if these fields contained no text to
        redact."""
        self._failed = False
        """True after the program's redaction raised an exception. From then on, no text is recorded."""
        self._table = MessageTable()
        self._requests: dict[int, tuple[Request, Request]] = {}
        """For each redacted request in which other fields than the messages were redacted: the redacted request, and
        the original without messages. The dict's key is Python's `id` of the redacted request."""
        self._given: dict[str, tuple[Response | None, dict[str, Any]]] = {}
        """For each turn whose answer or notes were redacted, by the turn's id: the original answer and notes."""

    def message(self, message: Message) -> Message:
        if self._redaction is None and _is_keyless(message):
            return message  # most messages
        return self._clean(message)

    def request(self, request: Request) -> Request:
        """Return the redacted request.

        A message that an earlier request also contained is redacted only once. Both redacted requests contain the same
        object for it.
        """
        messages = self._table.intern(request.messages, self.message)
        rest = msgspec.structs.replace(request, messages=())
        looked = (LIVE_KEYS.bytes, self._failed, *msgspec.structs.astuple(rest))
        same = all(map(is_, looked, self._looked))  # equal is not enough: 1 is True, and another text in JSON
        said = _encode((rest.extra, rest.tool_choice, rest.output_format))  # short, unlike the tools
        if not same or said != self._said:
            if rest.tools is self._tools and looked[:2] == self._looked[:2]:
                bare = msgspec.structs.replace(rest, tools=())
                clean = self._clean(bare)
                same = clean is bare and self._clean_tools is rest.tools
                clean = rest if same else msgspec.structs.replace(clean, tools=self._clean_tools)
            else:
                clean = self._clean(rest)
                self._tools = rest.tools
                self._clean_tools = rest.tools if clean.tools == rest.tools else clean.tools
            self._looked, self._said, self._rest = looked, said, None if clean is rest else clean
        if self._rest is None:
            if messages is request.messages:
                return request
            return msgspec.structs.replace(request, messages=messages)
        found = msgspec.structs.replace(self._rest, messages=messages)
        self._requests[id(found)] = found, rest
        return found

    def turn(self, turn: Turn) -> Turn:
        """Return the redacted turn. The caller must first replace the turn's request by the redacted request."""
        response = None if turn.response is None else self.response(turn.response)
        agent = turn.agent and self._text(turn.agent)
        if (response is turn.response and agent == turn.agent) and not (
            turn.error or turn.notes or turn.tokens or turn.wire or turn.raw or turn.decisions
        ):
            return turn  # nearly all turns
        error = turn.error and self._clean(turn.error)
        notes = self.json(turn.notes) if turn.notes else turn.notes
        decisions = tuple([self._clean(each) for each in turn.decisions])
        tokens = turn.tokens
        if tokens is not None:
            tokens = self._masked(tokens, turn, answer=response is not turn.response)
        wire = self._wire(turn.wire) if turn.wire is not None else None
        raw = self._raw(turn.raw) if turn.raw is not None else None
        same = response is turn.response and error is turn.error and notes is turn.notes
        same = same and agent == turn.agent and decisions == turn.decisions
        if same and tokens is turn.tokens and wire is turn.wire and raw is turn.raw:
            return turn
        increments = turn.increments if response is turn.response else None  # they count the characters
        if response is not turn.response or notes is not turn.notes:
            self._given[turn.id] = turn.response, turn.notes
        return msgspec.structs.replace(
            turn,
            response=response,
            error=error,
            notes=notes,
            agent=agent,
            decisions=decisions,
            tokens=tokens,
            increments=increments,
            wire=wire,
            raw=raw,
        )

    def as_given(self, turn: Turn) -> Turn:
        """Return a recorded turn with its original request, answer and notes, in place of the redacted ones."""
        response, notes = self._given.get(turn.id, (turn.response, turn.notes))
        request = self.request_as_given(turn.request)
        if response is turn.response and notes is turn.notes and request is turn.request:
            return turn
        return msgspec.structs.replace(turn, request=request, response=response, notes=notes)

    def request_as_given(self, request: Request) -> Request:
        """Return the original request for a recorded (redacted) request."""
        known, messages = self._table.given_form, request.messages
        _, rest = self._requests.get(id(request), (request, request))
        if known and any(id(message) in known for message in messages):
            messages = tuple([known.get(id(each), each) for each in messages])
        if rest is request and messages is request.messages:
            return request
        return msgspec.structs.replace(rest, messages=messages)

    def service(self, call: ServiceCall) -> ServiceCall:
        return self._clean(call)

    def entry(self, entry: Entry) -> Entry:
        """Return the redacted entry. If the entry is an intent, the caller must first redact its request."""
        if isinstance(entry, Opening) and entry.metadata:
            metadata = self.json(entry.metadata)
            return entry if metadata is entry.metadata else msgspec.structs.replace(entry, metadata=metadata)
        if isinstance(entry, Intent) and entry.agent is not None:
            agent = self._text(entry.agent)
            return entry if agent == entry.agent else msgspec.structs.replace(entry, agent=agent)
        if isinstance(entry, AgentStart):
            argv = tuple([self._text(each) for each in entry.argv])
            home, config = entry.home, entry.config
            found = msgspec.structs.replace(
                entry,
                argv=argv,
                cwd=self._keyless(entry.cwd),
                home=home and self._keyless(home),
                config=config and self._keyless(config),
            )
            return entry if found == entry else found
        if isinstance(entry, Score):
            name = self._keyless(entry.name)
            return entry if name == entry.name else msgspec.structs.replace(entry, name=name)
        return entry

    def _wire(self, wire: WireView) -> WireView:
        """Return the redacted wire view (the HTTP traffic of a call).

        If the program has a `Redaction`, the bodies are left out: its patterns cannot find escaped texts in the bodies.
        """
        body, answer = wire.body, wire.answer
        if self._redaction is not None or self._failed:
            body = answer = b""
        elif may_hold_a_key(body) or may_hold_a_key(answer):
            body, answer = (without_keys(each.decode("latin-1")).encode("latin-1") for each in (body, answer))
        return msgspec.structs.replace(
            wire,
            url=self._text(wire.url),
            headers={name: self._text(value) for name, value in wire.headers.items()},
            answer_headers={name: self._text(value) for name, value in wire.answer_headers.items()},
            body=body,
            answer=answer,
        )

    def _raw(self, raw: RawResponse) -> RawResponse:
        """Return the redacted raw answer.

        If the program has a `Redaction`, the body is left out. If the body contained a key, its pieces are joined into
        one piece, because several pieces may contain parts of the key.
        """
        whole = b"".join([piece for _, piece in raw.pieces])
        hidden = self._redaction is not None or self._failed
        pieces = () if hidden else raw.body
        if may_hold_a_key(whole) and not hidden:
            clean = without_keys(whole.decode("latin-1")).encode("latin-1")
            pieces = (clean,) if clean != whole else pieces
        headers = {name: self._text(value) for name, value in raw.headers.items()}
        if pieces is raw.body and headers == raw.headers:
            return raw
        return msgspec.structs.replace(raw, headers=headers, body=pieces)

    def _masked(self, tokens: Tokens, turn: Turn, *, answer: bool) -> Tokens:
        if answer:
            tokens = msgspec.structs.replace(
                tokens, completion=b"", probabilities=b"", routed_experts=b"", gaps=(*tokens.gaps, "redacted")
            )
        request = turn.request
        asked = id(request) in self._requests or any(
            id(each) in self._table.given_form for each in request.messages
        )
        if tokens.prompt and asked:
            tokens = msgspec.structs.replace(tokens, prompt=b"", gaps=(*tokens.gaps, "prompt_redacted"))
        return tokens

    def _clean(self, noun: T) -> T:
        """Return the redacted struct. If there is nothing to redact, return `noun` itself."""
        if self._redaction is None and _is_keyless_json(noun):
            return noun
        plain = msgspec.to_builtins(noun)
        clean = self._cleaned(plain)
        return noun if clean is plain else msgspec.convert(clean, type(noun))

    def _cleaned(self, value: Any, *, given: bool = False) -> Any:
        """Return the redacted JSON value. If `value` contains no text to redact, return `value` itself.

        The function uses no recursion, because JSON from an agent may be nested thousands of levels deep.
        """
        same, whole = True, [value]
        todo: list[tuple[Any, Any, str, bool]] = [(whole, 0, "", given)]
        """Values that are still to be redacted. Each item contains the value's container, its index in the container,
        the name of its member, and True if every string in the value is a text."""
        while todo:
            into, at, name, given = todo.pop()
            match into[at]:
                case str() as text:
                    if name in _NO_TEXT and not given:
                        clean = self._keyless(text)
                    elif name == "arguments":
                        clean = self.json_text(text)
                    else:
                        base64 = not given and name == "data" and not _WITH_BASE64.isdisjoint(into)
                        clean = self._text(text, base64=base64)
                    into[at] = clean
                    same = same and clean == text
                case dict() as members:
                    given = given or name in _GIVEN
                    names = {each: self._keyless(each) for each in members}
                    into[at] = copy = {names[each]: inner for each, inner in members.items()}
                    same = same and all(map(eq, names, names.values()))
                    said = None
                    if not given and members.get("part") == "Media":  # a text file that is sent inline
                        fields = map(members.get, ("kind", "media_type", "data"))
                        said = text_in_file(*fields)
                    if said is not None:
                        if (clean := self._text(said)) != said:
                            copy["data"], same = text_as_data(clean), False
                        del names["data"]
                    todo += [(copy, names[each], each, given) for each in reversed(names)]
                case list() | tuple() as items:
                    into[at] = [*items]
                    within = given or name in _GIVEN
                    todo += [(into[at], number, "", within) for number in reversed(range(len(items)))]
        return value if same else whole[0]

    def text(self, text: str) -> str:
        return self._text(text)

    def json_text(self, text: str) -> str:
        """Return the redacted JSON text. `text` may be invalid JSON, or contain letters as numeric escapes."""
        return cleaned_json(text, self._text)

    def json(self, value: Any) -> Any:
        if self._redaction is None and not may_hold_a_key(_encode(value)):
            return value
        return self._cleaned(value, given=True)

    def response(self, response: Response) -> Response:
        if self._redaction is None and _is_keyless(response):
            return response
        return self._clean(response)

    def _text(self, text: str, *, base64: bool = False) -> str:
        if self._redaction is None:
            return without_keys(text, self._keys)
        text = self._keyless(text, base64=base64)
        if self._failed:
            return MARK
        self._failed = True  # it stays True if the next line raises
        text = self._redaction._without_patterns(text)
        self._failed = False
        return text

    def _keyless(self, text: str, *, base64: bool = False) -> str:
        known = self._redaction is not None and self._redaction.known_keys and not base64
        return without_keys(text, self._keys, known_forms=known)


def _is_keyless_json(value: object) -> bool:
    encoded = _encode(value)
    return not may_hold_a_key(encoded) and _IS_TEXT_FILE not in encoded


def _is_keyless(noun: Message | Response) -> bool:
    """Return True if `noun` consists only of texts, and of parts with texts, and contains no key.

    The search does not encode the texts as JSON. (If a text with non-ASCII characters is encoded, Python keeps the
    encoded bytes for the lifetime of the text, which doubles its memory.)
    """
    if noun.extra is not None:
        return False
    texts: list[str | None]
    if isinstance(noun, Message):
        texts = [noun.name]
    elif noun.usage is not None and noun.usage.extra is not None:
        return False
    else:
        texts = [noun.id, noun.model, noun.stop_sequence, noun.dialect]
    parts: list[Part] = [*noun.content]
    for part in parts:
        if isinstance(part, Opaque) or not (part.extra is None or _is_keyless_json(part.extra)):
            return False
        match part:
            case Text() | RefusalText():
                texts.append(part.text)
            case ToolCall():
                texts += part.name, part.arguments, part.id
            case ToolResult():
                texts += part.id, part.name
                parts += part.content  # searched after all other texts
            case Reasoning():
                texts.append(part.text)
                for blob in part.blobs:
                    texts += blob.dialect, blob.kind, blob.data
            case _:
                texts += part.url, part.data, part.media_type, part.name
                texts.append(text_in_file(part.kind, part.media_type, part.data))
    said = [text for text in texts if text]
    if sum(map(len, said)) < _JOINED:  # no key contains a line break
        said = ["\n".join(said)]
    for text in said:  # noqa: SIM110 (a generator is dearer)
        if LIVE_KEYS.may_be_in(text) and without_keys(text) != text:
            return False
    return True
