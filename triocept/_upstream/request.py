"""Make the HTTP request to the provider. The JSON body is the agent's own body, or a body in the provider's dialect.

This module needs no HTTP package. `transport` needs an HTTP package, and is imported when the first upstream is opened.

Rules:

1. A provider of the agent's dialect receives the agent's JSON body, with its fields in the same order. Only fields for
   which the upstream has its own values are changed.
2. A body that names an earlier response of this endpoint, or contains reasoning that this provider did not generate,
   cannot be sent unchanged. A new body is rendered from the parsed `Request`.
3. A request that the provider's dialect cannot express is refused with 400. No part of the request is silently left
   out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request, Sampling
from .._canonical.tokens import estimate_input_tokens
from .._rollout.exchange_state import ExchangeState
from ..dialects import Dialect
from ..dialects._documents import decode_json, encode_json, merged
from ..dialects._records import lowered
from ..dialects._tool_names import ToolNames
from ..dialects.kit import ProviderCall
from ..errors import DialectError, Refusal, UpstreamError
from .address import Address
from .ceiling import Ceiling, asked_output, capped
from .headers import passed_up
from .history import restored
from .tokens import Collector, Profile

MAX_DOCUMENT = 256 * 1024 * 1024
"""Maximum bytes of a whole answer. The endpoint has the same maximum for a request."""


@dataclass(frozen=True)
class ProviderRequest:
    url: str
    headers: Mapping[str, str]
    body: bytes
    stream: bool
    """True if the call requests a stream."""
    collector: Collector | None = None
    """The collector of the tokens in the answer. None if no tokens are requested."""
    names: ToolNames | None = None
    """The tool names that were replaced in the request, so that the original names can be restored in the answer. None
    if no names are replaced."""
    model: str = ""
    """The requested model."""
    prompt: Callable[[], int] = int
    """A function that returns the estimated tokens of the prompt."""
    temperature: float | None = None
    """The requested temperature. None means the provider's default."""
    method: str = "POST"

    @property
    def address(self) -> str:
        """The URL without its query, which may contain a key."""
        return self.url.partition("?")[0]

    def __repr__(self) -> str:  # its headers hold a key
        return f"<ProviderRequest {self.address}: {len(self.body)} bytes>"


_OBJECTS = ("generationConfig", "generation_config", "options")
"""Objects that contain the sampling parameters in JSON bodies of Gemini and Ollama. In other dialects, these parameters
are fields of the body itself."""
_REFUSED = frozenset({400, 413, 422})
"""Statuses with which providers refuse a number of tokens that is too large."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """Values of an upstream that replace the values in the agent's request."""

    model: str | None = None
    sampling: Sampling | None = None
    """Sampling parameters. Each parameter that is set replaces the agent's."""
    extra_body: Mapping[str, Json] = {}
    """Fields to set in the JSON body that is sent, with the provider's field names. Objects are merged with the
    existing objects, and None removes a field."""
    extra_headers: Mapping[str, str] = {}
    max_output_tokens: int | None = None
    """Maximum output tokens that a call requests."""


class Requests:
    def __init__(
        self,
        address: Address,
        dialect: Dialect,
        api_key: str | None,
        overrides: Overrides,
        profile: Profile | None = None,
        session_header: str | None = None,
    ) -> None:
        self._address = address
        self._session_header = session_header
        self._dialect = dialect
        self._overrides = overrides
        self._profile = profile
        self._ceiling = Ceiling(overrides.max_output_tokens)
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # compression delays a stream
            **lowered(overrides.extra_headers),
            **(profile.headers if profile is not None else {}),
            **(lowered(dialect.key_headers(api_key)) if api_key is not None else {}),
        }
        self._defaults = dialect.default_headers

    def of_exchange(self, exchange: ExchangeState) -> ProviderRequest:
        """Return the request to the provider for an exchange. Note in the turn how many reasoning parts were dropped.

        Raise a `Refusal` with 400 if the provider's dialect cannot express the request.
        """
        same_dialect = exchange.dialect == self._dialect.name
        history = restored(
            exchange.request, exchange.rollout, upstream=self._address.base, dialect=self._dialect.name
        )
        if history.dropped:
            exchange.annotate(dropped_reasoning=history.dropped)
        request = self._overridden(history.request)
        if not same_dialect:
            request = msgspec.structs.replace(request, include_usage=True)
        names = self._names(request)
        raw = exchange.raw if same_dialect and not history.changed else None
        if (
            isinstance(raw, dict)
            and self._overrides.sampling is None
            and exchange.request.framing == "sse"
            and self._dialect.as_it_came(raw, exchange.request)
        ):
            document: Json = raw
            if self._overrides.model is not None and "model" in raw:
                document = {**raw, "model": self._overrides.model}
        else:
            try:
                rendered = self._dialect.render_request(_named(request, names))
            except DialectError as exc:
                text = f"the dialect {self._dialect.name} of the provider cannot express this request: {exc}"
                raise Refusal(400, text, should_retry=False) from exc
            left_out = self._dialect.not_posted
            document = {name: value for name, value in rendered.items() if name not in left_out}
        query = exchange.query if same_dialect else ""
        prompt = partial(exchange.rollout.estimator.input_tokens, request)
        headers = passed_up(exchange.headers, same_dialect=same_dialect, wanted=self._defaults)
        headers |= self._session(exchange.rollout.id)
        return self._call(request, document, headers, query, names, prompt)

    def of_request(self, request: Request, *, stream: bool, rollout: str = "") -> ProviderRequest:
        """Return the request to the provider for a model call of the program itself.

        `rollout` is the id of the rollout to which the call belongs, or an empty text. Raise DialectError if the
        provider's dialect cannot express the call.
        """
        request = self._overridden(msgspec.structs.replace(request, stream=stream))
        names = self._names(request)
        document = self._dialect.render_request(_named(request, names))
        prompt = partial(estimate_input_tokens, request)
        return self._call(request, document, self._session(rollout), "", names, prompt)

    def _session(self, rollout: str) -> dict[str, str]:
        return {self._session_header: rollout} if self._session_header and rollout else {}

    def of_provider(self, asked: ProviderCall) -> ProviderRequest:
        """Return the HTTP request for a call that is not a model call.

        The call is sent to a route of the provider's API, or (with `asked.at_root`) to a route of the server itself.
        """
        url = f"{self._address.root}{asked.path}" if asked.at_root else self._address.at(asked.path)
        headers = {"accept": "application/json", **({} if asked.at_root else self._defaults), **self._headers}
        return ProviderRequest(url=url, headers=headers, body=encode_json(asked.document), stream=False)

    def lowered(self, call: ProviderRequest, error: UpstreamError) -> ProviderRequest | None:
        """Return `call`, changed to request fewer output tokens: the maximum that the provider states in `error`.

        Return None if the provider did not refuse the call because of the number of tokens.
        """
        if error.status not in _REFUSED:
            return None
        most = self._ceiling.learn(call.model, error.message, call.prompt())
        document = decode_json(call.body)
        asked = asked_output(document, self._dialect.caps)
        if most is None or asked is None or asked <= most:
            return None
        document = capped(document, self._dialect.caps, most, always=False)
        return replace(call, body=encode_json(document))

    def _names(self, request: Request) -> ToolNames | None:
        same_dialect = request.dialect == self._dialect.name
        return None if same_dialect else ToolNames(request, self._dialect)

    def _overridden(self, request: Request) -> Request:
        model, sampling = self._overrides.model or request.model, request.sampling
        if self._overrides.sampling is not None:
            wanted = {
                name: value
                for name in Sampling.__struct_fields__
                if (value := getattr(self._overrides.sampling, name)) not in (None, ())
            }
            sampling = msgspec.structs.replace(sampling, **wanted)
        return msgspec.structs.replace(request, model=model, sampling=sampling)

    def _call(
        self,
        request: Request,
        document: Json,
        headers: Mapping[str, str],
        query: str,
        names: ToolNames | None,
        prompt: Callable[[], int],
    ) -> ProviderRequest:
        for name, value in self._overrides.extra_body.items():
            document = {**document}
            if value is None:
                document.pop(name, None)
            else:
                document = merged(document, {name: value})
        ceiling, model = self._ceiling, request.model
        if ceiling.configured is not None:
            document = capped(document, self._dialect.caps, ceiling.configured, always=True)
        learned = model in ceiling.outputs or model in ceiling.windows
        if learned and (most := ceiling.of(model, prompt())) is not None:
            document = capped(document, self._dialect.caps, most, always=False)
        collector = None
        if self._profile is not None:
            document, collector = self._profile.ask(document, self._dialect.logprobs)
        stream = request.stream and not (self._profile is not None and self._profile.whole)
        # The sent temperature may differ from the request's: the dialect Messages allows none above 1.
        places = (document, *(document.get(name) for name in _OBJECTS))
        temperatures = [place.get("temperature") for place in places if isinstance(place, Mapping)]
        accept = self._dialect.stream_types[0] if stream else "application/json"
        return ProviderRequest(
            url=self._address.at(self._dialect.path(request), query),
            headers={"accept": accept, **self._defaults, **headers, **self._headers},
            body=encode_json(document),
            stream=stream,
            collector=collector,
            names=names,
            model=request.model,
            prompt=prompt,
            temperature=next((float(each) for each in temperatures if isinstance(each, (int, float))), None),
        )


def _named(request: Request, names: ToolNames | None) -> Request:
    return request if names is None else names.request(request)
