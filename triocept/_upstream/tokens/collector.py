"""Collect the tokens in one answer, and check the collected tokens.

Rules:

1. Every chunk is read before it may be discarded, because vLLM sends ids in chunks without other content.
2. Only fields that triocept requested are removed. Fields that the agent itself requested stay.
3. If a check fails, `Tokens.gaps` contains the check's name. No value is corrected or invented.
"""

from __future__ import annotations

import math
from base64 import b64decode

import msgspec

from ..._canonical.content import Json
from ..._canonical.response import Usage
from ..._trace.tokens import Tokens, packed_floats, packed_ids
from ..._util.sse import SSEDecoder, encode_sse
from ...dialects._documents import decode_json, encode_json
from ...errors import DialectError
from ..versions import versions_in

SENTINEL = -9999.0
"""vLLM's value for a missing log probability."""
_EPSILON = 1e-4

_VERBOSE = "__verbose"
_ROOT_IDS = (
    *("prompt_token_ids", "prompt_logprobs", "sglext", "input_ids", "output_ids", "response_token_ids"),
    _VERBOSE,
)
_CHOICE_IDS = (
    *("token_ids", "prompt_token_ids", "prompt_logprobs", "sglext", "response_token_ids"),
    "routed_experts",
)
_DONE = frozenset({"stop", "tool_calls"})
"""Finish reasons of an answer that the model itself ended, or that ended at a stop string."""
_STOPS = {"vllm": ("stop_reason", True), "sglang": ("matched_stop", None)}
"""For each server, two values. First: the field of a choice that contains the stop token (a number) or the stop string
(a text). Second: the value of `stop_included` for a choice without this field. (vLLM leaves the field out if the answer
ended with the model's own stop token.)"""
_STOP_TYPES = {"eos": True, "word": False, "limit": False}
"""llama.cpp's stop types, each with True if the token ids of the answer then include the stop token."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of fields that only triocept has requested. These fields are removed from the agent's answer."""

    ids: bool
    logprobs: bool
    usage: bool


class Collector:
    """Collects the token ids and log probabilities of one answer.

    Args:
        strip: the kinds of fields that are removed from the agent's answer.
        temperature: the temperature that the call requests; None means the server's default.
    """

    def __init__(self, engine: str, *, strip: Wanted, temperature: float | None = None) -> None:
        self._engine = engine
        self.strip = strip
        self._temperature = temperature
        self.prompt_text: str | None = None
        """The prompt as text, if the server (llama.cpp) sends the prompt without token ids; otherwise None."""
        self._prompt: list[int] = []
        self._completion: list[int] = []
        self._named: list[int | None] = []  # the token ids that the log probabilities name
        self._logprobs: list[float] = []
        self._version: str | None = None
        self._stop_included: bool | None = None
        self._experts = b""
        self._gaps: dict[str, None] = {}

    def document(self, body: bytes) -> bytes:
        """Collect the tokens in the body of a whole answer, and return the body for the agent."""
        try:
            document = decode_json(body)
        except DialectError:
            return body
        if not isinstance(document, dict) or document.get("error"):
            return body
        self._read(document)
        return encode_json(self._stripped(document))

    def frame(self, frame: bytes) -> tuple[bytes, bytes]:
        """Collect the tokens in a frame of a stream.

        Return the frame to parse, and the frame for the agent. If nothing is left of a frame, empty bytes are returned
        for that frame.
        """
        decoded = SSEDecoder().feed(frame)
        if len(decoded) != 1 or not decoded[0].data.startswith(b"{"):
            return frame, frame
        chunk = decode_json(decoded[0].data)
        if not isinstance(chunk, dict) or chunk.get("error"):
            return frame, frame
        self._read(chunk)
        stripped = self._stripped(chunk)
        if stripped == chunk and not decoded[0].event:
            read = frame
        else:
            read = b"" if _is_empty(stripped) else encode_sse(encode_json(stripped))
        if not self.strip.usage or "usage" not in stripped:
            return read, read
        shown = {name: value for name, value in stripped.items() if name != "usage"}
        return read, b"" if _is_empty(shown) else encode_sse(encode_json(shown))

    def take_prompt(self, ids: Json) -> None:
        self._prompt = _ids(ids)

    def tokens(self, usage: Usage | None, version: str | None = None, *, whole: bool = True) -> Tokens:
        """Check the collected tokens, and return them. `Tokens.gaps` contains the name of each check that failed.

        Args:
            usage: the usage of the answer. Its counts are compared with the numbers of collected tokens.
            version: the version of the weights that is used if the answer names no version.
            whole: False if the answer was cut off.
        """
        completion = self._completion or [each for each in self._named if each is not None]
        logprobs, pairs = self._logprobs, zip(self._named, completion, strict=False)
        for gap, is_there in (
            ("ids_missing", not completion),
            ("ids_count", usage is not None and len(completion) != usage.output_tokens),
            ("prompt_ids_missing", not self._prompt),
            (
                "prompt_ids_count",
                bool(self._prompt) and usage is not None and len(self._prompt) != usage.input_tokens,
            ),
            ("logprob_count", len(logprobs) != len(completion)),
            (
                "logprob_sentinel",
                any(not math.isfinite(each) or each > _EPSILON or each <= SENTINEL for each in logprobs),
            ),
            ("token_id_mismatch", any(name is not None and name != each for name, each in pairs)),
            ("upstream_truncated", not whole),
        ):
            if is_there:
                self._gaps[gap] = None
        return Tokens(
            prompt=packed_ids(self._prompt),
            completion=packed_ids(completion),
            probabilities=packed_floats(self._logprobs),
            engine=self._engine,
            policy_version=self._version or version,
            temperature=self._temperature,
            stop_included=self._stop_included,
            routed_experts=self._experts,
            gaps=tuple(self._gaps),
        )

    def _read(self, document: dict[str, Json]) -> None:
        """Collect the tokens in the decoded JSON of a chunk or of a whole answer."""
        self._version = next(iter(versions_in(document)), self._version)
        self._take(document)
        if isinstance(verbose := document.get(_VERBOSE), dict):
            self._completion += _ids(verbose.get("tokens"))
            prompt = verbose.get("prompt")
            self.prompt_text = prompt if isinstance(prompt, str) else None
            if isinstance(settings := verbose.get("generation_settings"), dict):
                value = settings.get("temperature")
                self._temperature = None
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._temperature = float(value)
            self._stop_included = _STOP_TYPES.get(str(verbose.get("stop_type")))
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            if choice.get("index"):
                self._gaps["multi_choice"] = None
                continue
            self._take(choice)
            self._take_logprobs(choice.get("logprobs"))
            # The kind of the answer's end: the token that ends a turn, a stop string, or the token limit.
            reason = choice.get("finish_reason")
            if reason == "length":
                self._stop_included = False
            elif reason in _DONE and self._engine in _STOPS:
                name, if_absent = _STOPS[self._engine]
                stop = choice.get(name)
                self._stop_included = if_absent if stop is None else isinstance(stop, int)
            if isinstance(experts := choice.get("routed_experts"), str):
                try:
                    self._experts = b64decode(experts, validate=True)
                except ValueError:
                    self._experts = b""

    def _take(self, place: dict[str, Json]) -> None:
        inner = place.get("sglext")
        for source in (place, inner if isinstance(inner, dict) else {}):
            for name in ("prompt_token_ids", "input_ids"):
                self._prompt = _ids(source.get(name)) or self._prompt
            for name in ("token_ids", "response_token_ids", "output_ids"):
                self._completion += _ids(source.get(name))

    def _take_logprobs(self, logprobs: Json) -> None:
        if not isinstance(logprobs, dict):
            return
        entries = logprobs.get("content")
        for entry in entries if isinstance(entries, list) else ():
            fields = entry if isinstance(entry, dict) else {}
            self._logprobs.append(_number(fields.get("logprob")))
            identity = fields.get("id")
            self._named.append(identity if isinstance(identity, int) else _id_named(fields.get("token")))
        values = logprobs.get("token_logprobs")  # of completions
        for value in values if isinstance(values, list) else ():
            self._logprobs.append(_number(value))
        names = logprobs.get("tokens") if isinstance(values, list) else None
        self._named += [_id_named(name) for name in names] if isinstance(names, list) else []

    def _stripped(self, document: dict[str, Json]) -> dict[str, Json]:
        names = _ROOT_IDS if self.strip.ids else ()
        kept = {name: value for name, value in document.items() if name not in names}
        names = (*(_CHOICE_IDS if self.strip.ids else ()), *(("logprobs",) if self.strip.logprobs else ()))
        choices = kept.get("choices")
        if isinstance(choices, list):
            kept["choices"] = [
                {name: value for name, value in choice.items() if name not in names}
                if isinstance(choice, dict)
                else choice
                for choice in choices
            ]
        return kept


def _is_empty(chunk: dict[str, Json]) -> bool:
    """Return True if a chunk contains no usage, no text, no finish reason and no delta with a value.

    The agent needs no such chunk.
    """
    if chunk.get("usage"):
        return False
    for choice in chunk.get("choices") or ():
        if not isinstance(choice, dict) or choice.get("finish_reason") or choice.get("text"):
            return False
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(value for value in delta.values()):
            return False
    return True


def _ids(value: Json) -> list[int]:
    if not isinstance(value, list):
        return []
    if len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # one list for each choice
    return [each for each in value if isinstance(each, int) and not isinstance(each, bool)]


def _number(value: Json) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _id_named(token: Json) -> int | None:
    """Return the id in a token of the form `token_id:123`, which vLLM sends. Return None for any other form."""
    name, _, number = token.partition(":") if isinstance(token, str) else ("", "", "")
    return int(number) if name == "token_id" and number.isascii() and number.isdigit() else None
