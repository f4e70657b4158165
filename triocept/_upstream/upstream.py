"""`open_upstream`: a provider's real model as a handler.

Rules:

1. If the agent requested a stream, a stream is requested from the provider, and passed on piece by piece as it arrives.
   If the agent requested a whole answer, a whole answer is requested.
2. If the agent uses the provider's dialect, the answer is passed on byte for byte. If the agent uses another dialect,
   the answer is translated event by event.
3. The exchange has no outcome until the first piece of the answer has arrived. A failure before the first piece is
   raised as an error with the provider's status.
4. When the agent disconnects, the connection to the provider is closed.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from typing import TYPE_CHECKING, final

import msgspec
import trio

from .._canonical.content import Json, Message, Text
from .._canonical.events import Event, Fold, ResponseEnd, ResponseStart, assemble, events_of
from .._canonical.given_request import given_request
from .._canonical.request import Request, Sampling, Tool
from .._canonical.response import Response, Usage
from .._rollout.answer import Relayed
from .._rollout.draft import keep_aborted
from .._rollout.event_loop import check_loop
from .._rollout.exchange import Exchange, ResponseStream, StreamContext, core_of, joins
from .._rollout.exchange_state import ExchangeState
from .._trace.tokens import Tokens
from .._trace.turn import UPSTREAM
from .._util.checks import check_bool, check_count, check_type
from .._util.contexts import shown_context
from .._util.secrets import LIVE_KEYS
from ..dialects import Dialect
from ..dialects import dialect as dialect_named
from ..dialects._documents import decode_json
from ..dialects._failures import ABORTED
from ..dialects.kit import ProviderCall
from ..errors import ContextLengthError, DialectError, UpstreamError, UpstreamTruncated
from .address import Address, parse_address
from .continuing import Rest, rest_of
from .counting import Counter
from .failures import MAX_ERROR, Reader
from .given import (
    check_body,
    check_headers,
    check_overrides,
    check_session,
    check_timeouts,
    check_tls,
    key_of,
)
from .headers import passed_down, secrets_in
from .limiter import Limiter
from .patience import Patience, retry_pause
from .pausing import InFlight, Pause, PauseMode, Pauses, partial_answer
from .relay import Pieces, Relay
from .request import MAX_DOCUMENT, Overrides, ProviderRequest, Requests
from .sessions import Sessions, open_sessions
from .tokens import Collector, Profile, TokenProfile, check_probe, profile_named
from .versions import versions_in

if TYPE_CHECKING:
    from .transport import ProviderClient, ProviderReply

log = logging.getLogger("triocept.upstream")

CONNECT_TIMEOUT = 10.0
"""Maximum seconds for connecting to the provider, as in the SDKs that agents use."""
MAX_LOWERED = 3
"""Maximum times that a call is sent again with a smaller maximum of output tokens. vLLM may refuse a call twice. First,
vLLM checks this number alone. Then it checks the sum of this number and the prompt's tokens."""

_PROBE = Request(
    dialect="",
    model="",
    messages=(Message("user", (Text("Hello"),)),),
    tools=(Tool(name="look", description="Look around.", parameters={"type": "object", "properties": {}}),),
    sampling=Sampling(max_output_tokens=1),
    include_usage=True,
)


@final
class Upstream:
    """A real model of a provider, as a handler. Only `open_upstream` creates instances.

    Pass an upstream as a handler: `open_rollout(upstream)`. You can also forward single exchanges: `await
    upstream(exchange)`, `await exchange.forward(upstream)`.
    """

    def __init__(
        self,
        address: Address,
        dialect: Dialect,
        *,
        transport: ProviderClient,
        api_key: str | None,
        overrides: Overrides,
        limiter: Limiter,
        retries: int,
        read_timeout: float | None,
        total_timeout: float | None,
        profile: Profile | None,
        hold_calls: bool,
        session_header: str | None,
        sessions: Sessions | None,
    ) -> None:
        self.url: str = address.base
        """The base URL, without its query."""
        self.dialect: str = dialect.name
        """The name of the provider's dialect."""
        self._codec = dialect
        self._transport = transport
        self._requests = Requests(address, self._codec, api_key, overrides, profile, session_header)
        self._counter = Counter(self._requests, transport, self._codec)
        self._reader = Reader(self._codec, api_key)
        self._pauses = Pauses(self._requests, transport, self._reader, dialect.name)
        self._sessions = sessions
        if sessions is not None:
            sessions.pauses = self._pauses
        self._model = overrides.model
        self._limiter = limiter
        self._retries = retries
        self._hold_calls = hold_calls
        self._read_timeout, self._total_timeout = read_timeout, total_timeout

    @property
    def policy_version(self) -> str | None:
        """Version of the provider's weights, for example a training step. None if the version is unknown.

        A program that changes the weights sets the version. Each turn records the version at the time when its call is
        sent (`policy_start`) and at the time when its answer ends (`policy_end`). A version that the provider itself
        sends takes precedence.

        Raises:
            TypeError: the assigned version is neither a str nor None.
        """
        return self._pauses.version

    @policy_version.setter
    def policy_version(self, version: str | None) -> None:
        check_type(
            "policy_version", version, (str, type(None)), "a str or None", "for a step, pass str(step)"
        )
        self._pauses.version = version

    def paused(self, mode: PauseMode = "keep") -> AbstractAsyncContextManager[Pause]:
        """Pause the upstream while the body changes the weights: `async with upstream.paused() as pause`.

        Calls that arrive during the pause wait in triocept. Their agents get keep-alives, and the time limits of the
        calls do not run. Some servers have routes for a pause (vLLM with `VLLM_SERVER_DEV_MODE=1`, SGLang). If the
        server has such a route, and this program may call it, the server is paused, too. Then calls of other clients
        also wait. `pause.server` names the kind of server.

        Args:
            mode: `keep`: the server keeps the calls in progress, and continues them with the new weights. If the server
                cannot keep calls, the mode is `wait` (`pause.mode` is the mode in effect). `wait`: calls in progress
                finish before the body begins. `abort`: calls in progress are aborted, and sent again after the body. If
                an agent has received a part of a streamed answer, the call cannot be sent again. Such a call finishes
                before the body begins.

        After the body, `policy_version` is read from the server. Exceptions: the server has no route for the version,
        or the body has set `policy_version`.

        Raises:
            ValueError: `mode` is not one of these modes.
            RuntimeError: the upstream is paused already.
            UpstreamError: the server refused the pause, so the body does not begin. This error is also raised if the
                server could not be resumed within a minute. In this case, calls are sent to the server although the
                server may still be paused.

        Closing and cancellation: the upstream and its server are resumed. The resume takes at most a minute, and a
        cancellation does not interrupt the resume.
        """
        self._check_open()
        return self._pauses.paused(mode)

    def __repr__(self) -> str:
        return f"<Upstream {self.url}: {self.dialect}>"

    async def __call__(self, exchange: Exchange) -> None:
        """Forward the agent's call to the provider, and answer the exchange with the provider's answer.

        Raises:
            UpstreamError: the provider failed. If the agent has not received a byte yet, the exchange has no outcome,
                so the program may try another upstream. If the program lets the error propagate, the agent receives the
                error's status and message. In the middle of a stream, the failure is the outcome of the exchange, and
                the agent receives an error in the stream.
            UpstreamTruncated: the provider's stream ended before the event that ends the answer.
            ContextLengthError: the prompt is too long for the provider's model.
            Refusal: the provider's dialect cannot express the agent's request (status 400).
            ExchangeAbandoned, AlreadySettled: see `exchange.respond`.

        Cancellation: closes the connection to the provider. An exchange that has no outcome yet can still be answered.
        """
        core = core_of(exchange)
        try:
            with core.work(), self._named(core.rollout.id):
                core.annotate(**{UPSTREAM: self._note()})
                core.hold_calls = self._hold_calls
                core.sampled = core.tokens = core.policy = (
                    None  # tokens of an earlier upstream do not belong to this answer
                )
                call = self._requests.of_exchange(core)
                if call.temperature is not None:
                    core.annotate(**{UPSTREAM: self._note(call)})
                if self._sessions is not None:
                    self._sessions.add(core.rollout)
                try:
                    await self._answer(core, call)
                except UpstreamError as exc:
                    if core.fold is not None:  # the time limit passed in the middle of the stream
                        await core.settle_by(exc)
                    raise
        except UpstreamError as exc:
            # Log one error for each rollout: the agent receives each error, the program none. Do not log a prompt that
            # is too long: agents depend on that error.
            rollout = core.rollout.agents_own
            if not rollout.upstream_failed and not isinstance(exc, ContextLengthError):
                rollout.upstream_failed = True
                log.warning(
                    "%s (logged only once for a rollout; the trace contains the error of each turn)", exc
                )
            raise

    @property
    def _configured_model(self) -> str | None:
        """The model that this upstream requests. None if the upstream requests the model that the agent names."""
        return self._model

    async def fetch(self, request: Request, *, exchange: Exchange | None = None) -> Response:
        """Send a request of the program to the provider, and return the whole answer.

        Args:
            request: the request, from any dialect. Its field `stream` is ignored. The content of a message may be a
                str.
            exchange: the exchange that the program will settle with this answer. If the upstream was opened with
                `tokens`, the turn of the exchange gets the tokens of the answer. If the program settles the exchange
                with a different answer, `Turn.rewritten` is True. If the program calls `fetch` several times for an
                exchange, the last answer is the model's answer.

        Raises:
            TypeError, ValueError: the request is invalid. The error's text names the invalid part.
            UpstreamError: the provider failed (`UpstreamTruncated`, `ContextLengthError`).
            DialectError: the provider's dialect cannot express the request.

        Cancellation: closes the connection to the provider.
        """
        request, core = _given("fetch", request), None if exchange is None else core_of(exchange)
        rollout = "" if core is None else core.rollout.id

        async def attempt() -> tuple[ProviderRequest, ProviderReply, Response]:
            call = self._requests.of_request(request, stream=False, rollout=rollout)
            with self._named():
                async with self._open(call) as reply:
                    response, _ = await self._read_whole(reply, call)
            return call, reply, response

        call, reply, response = await self._pauses.repeat(attempt)
        if core is not None:
            core.sampled = lambda: response
            core.policy = partial(self._policy, reply, sampled=response)
            if call.collector is not None:
                core.tokens = partial(call.collector.tokens, response.usage, reply.in_flight.version)
        return response

    async def count_input_tokens(self, request: Request) -> int | None:
        """Return the number of tokens in a prompt, as the provider counts them.

        Return None if the provider has no API for counting tokens, or does not answer. Anthropic, Google, vLLM,
        llama.cpp and OpenAI's Responses have such an API. If the handler of a rollout is an upstream, the agent's count
        requests (`count_tokens` of Messages, `countTokens` of Gemini) are answered with this number.

        Args:
            request: the request, from any dialect.

        Cancellation: closes the connection to the provider.
        """
        request = _given("count_input_tokens", request)
        self._check_open()
        return await self._counter.count(request)

    def open_response(
        self, request: Request, *, exchange: Exchange | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Send a request and stream the answer: `async with upstream.open_response(request) as events`.

        `events` yields each event when it arrives from the provider; the last event is a `ResponseEnd`. The body begins
        when the first event has arrived.

        Closing: if the answer has not ended, the connection to the provider is closed.

        Takes the same arguments and raises the same errors as `fetch`. A cancellation has the same effect. The
        iteration over `events` raises errors that occur in the middle of the stream.
        """
        return self._open_response(request, exchange)

    @asynccontextmanager
    async def _open_response(
        self, request: Request, exchange: Exchange | None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        request, core = _given("open_response", request), None if exchange is None else core_of(exchange)
        rollout, begun = "" if core is None else core.rollout.id, False
        with self._named():
            async with AsyncExitStack() as stack:

                async def attempt() -> tuple[ProviderRequest, ProviderReply, Pieces | _Whole, Relayed | None]:
                    call = self._requests.of_request(request, stream=True, rollout=rollout)
                    try:
                        reply = await stack.enter_async_context(self._open(call, begun=lambda: begun))
                        pieces = await self._pieces(reply, call)
                        return call, reply, pieces, await pieces.next()
                    except UpstreamError:
                        await stack.aclose()
                        raise

                call, reply, pieces, first = await self._pauses.repeat(attempt)
                begun = True
                reply.patience.pause(True)
                sampled = None
                if core is not None:
                    core.policy = partial(self._policy, reply, sampled=None)
                    sampled = _Sampled(core, call.collector, reply.in_flight.version)

                async def flat() -> AsyncGenerator[Event, None]:
                    piece = first
                    while piece is not None:
                        if sampled is not None:
                            sampled.add(piece)
                        for event in piece.events:
                            yield event
                        reply.patience.pause(False)
                        piece = await pieces.next()
                        reply.patience.pause(True)

                yield await stack.enter_async_context(aclosing(flat()))

    # From the call to the head of its answer

    @asynccontextmanager
    async def _open(
        self,
        call: ProviderRequest,
        exchange: ExchangeState | None = None,
        begun: Callable[[], bool] = lambda: False,
    ) -> AsyncIterator[ProviderReply]:
        """Send `call`, and yield the provider's response.

        A failed call is retried as configured. If all tries fail, the last error is raised.

        `begun` returns True if a part of the answer was already used. In this case, the call is not sent again.
        """
        self._check_open()
        rollout, total, idle = "", self._total_timeout, self._read_timeout
        if exchange is not None:
            rollout, limits = exchange.rollout.id, exchange.rollout.addresses.limits
            total = limits.upstream_seconds if total is None else total
            idle = limits.upstream_idle_seconds if idle is None else idle
        patience = Patience(total, idle)
        with patience.scope:
            tries = lowered = 0
            while True:
                async with AsyncExitStack() as stack:
                    try:
                        await stack.enter_async_context(self._limiter.slot(rollout))
                        in_flight = await stack.enter_async_context(
                            self._pauses.in_flight(patience, begun, stream=call.stream)
                        )
                        with patience.trying():
                            reply = await stack.enter_async_context(self._transport.open(call, patience))
                            reply.in_flight = in_flight
                            if not 200 <= reply.status < 300:
                                body = await reply.read(MAX_ERROR)
                                raise self._reader.failure(reply.status, body, reply.headers, call.address)
                    except UpstreamError as exc:
                        less = self._requests.lowered(call, exc) if lowered < MAX_LOWERED else None
                        if less is not None:
                            call, pause, lowered = less, 0.0, lowered + 1
                        elif (again := retry_pause(exc, tries := tries + 1, self._retries)) is not None:
                            pause = again
                        else:
                            raise
                    else:
                        yield reply
                        break
                await trio.sleep(pause)
        if patience.scope.cancelled_caught:
            raise patience.error

    def _check_open(self) -> None:
        if self._transport.closed:
            raise trio.ClosedResourceError(
                f"{self!r} is closed: use an upstream within the block of its `open_upstream`"
            )

    @contextmanager
    def _named(self, rollout: str = "") -> Iterator[None]:
        """Add the upstream's URL and the rollout's id to each UpstreamError that the body raises."""
        try:
            yield
        except UpstreamError as exc:
            exc.upstream, exc.rollout = exc.upstream or self.url, exc.rollout or rollout
            raise

    def _note(self, call: ProviderRequest | None = None, reply: ProviderReply | None = None) -> Json:
        """Return the note for a turn that describes the upstream and its request to the provider."""
        note: dict[str, Json] = {"url": self.url, "dialect": self.dialect}
        if self._model is not None:
            note["model"] = self._model
        if call is not None and call.temperature is not None:
            note["temperature"] = call.temperature
        names = ("request-id", "x-request-id")
        headers = reply.headers if reply is not None else {}
        found = next((headers[name] for name in names if name in headers), None)
        return note if found is None else {**note, "request_id": found}

    async def _probe(self) -> None:
        """Send a test call that streams one token and offers a tool. Check the tokens in the answer."""
        try:
            check_probe(await self._tokens_of(_PROBE))
        except UpstreamError as exc:
            if exc.status != 400 or "tool" not in exc.message.lower():
                raise  # else the server refuses tools (vLLM without a tool parser), which does not concern tokens
            check_probe(await self._tokens_of(msgspec.structs.replace(_PROBE, tools=())))

    async def _tokens_of(self, request: Request) -> Tokens:
        if not self._codec.tools:
            request = msgspec.structs.replace(request, tools=())
        call = self._requests.of_request(request, stream=True)
        assert call.collector is not None
        usage = None
        with self._named():
            async with self._open(call) as reply:
                pieces = await self._pieces(reply, call)
                while (piece := await pieces.next()) is not None:
                    usage = _usage_of(piece) or usage
        return call.collector.tokens(usage)

    # From the head to the agent

    async def _answer(self, exchange: ExchangeState, call: ProviderRequest) -> None:
        """Answer an exchange. If the server aborts the call, send the call again.

        If the agent has received a part of the answer, request only the rest, or raise the error of the abort.
        """
        sent: InFlight | None = None
        since = 0.0
        stream: ResponseStream | None = None
        rest: Rest | None = None

        def begun() -> bool:
            return exchange.answer.began_at is not None or exchange.settled

        async def begin() -> ResponseStream:
            nonlocal stream
            if stream is None:
                stream = await stack.enter_async_context(StreamContext(exchange))
            return stream

        async def attempt() -> None:
            nonlocal sent, since
            sent, since, earlier = None, exchange.elapsed, exchange.policy
            try:
                async with self._open(call, exchange, begun) as reply:
                    sent = reply.in_flight
                    exchange.answer.headers = passed_down(reply.headers)
                    exchange.annotate(**{UPSTREAM: self._note(call, reply)})
                    exchange.policy = partial(self._policy, reply, earlier=earlier)
                    if rest is None and (not call.stream or reply.media_type == "application/json"):
                        await self._answer_whole(exchange, reply, call)
                    else:
                        await self._answer_stream(exchange, reply, call, begin, rest)
            except UpstreamError as exc:
                if rest is None or exc.code == ABORTED:
                    raise
                log.debug("an aborted answer could not be continued: %s", exc)
                raise rest.error from exc

        async def may_repeat(error: UpstreamError) -> bool:
            nonlocal call, stream, rest
            if rest is not None and error is rest.error:
                return False
            part, tokens = (sent.partial, sent.tokens) if sent is not None else (None, None)
            if not begun():
                stack.pop_all()
                stream = exchange.fold = exchange.tokens = exchange.policy = None
                call = self._requests.of_exchange(exchange)
            elif exchange.settled or exchange.fold is None or part is None:
                return False
            else:
                usage = part.usage if rest is None else rest.total(part.usage)
                whole = msgspec.structs.replace(exchange.fold.response(), usage=usage)
                call, joins = self._requests.of_exchange(exchange), exchange.dialect != self.dialect
                found = rest_of(call, whole, self._codec.caps, error, joins=joins)
                if found is None or not await self._pauses.can_continue():
                    return False
                call, rest = found
                if whole.content:
                    exchange.sampled = partial(Response, ())  # no single call has sampled the answer
            keep_aborted(exchange, error, since=since, response=part, tokens=tokens, counted=rest is None)
            return True

        async with AsyncExitStack() as stack:
            await self._pauses.repeat(attempt, may_repeat)

    def _policy(
        self,
        reply: ProviderReply,
        response: Response | None,
        sampled: Response | None = None,
        earlier: Callable[[Response | None], tuple[str | None, str | None]] | None = None,
    ) -> tuple[str | None, str | None]:
        """Return the version of the weights at the start of an answer, and the version at its end.

        `sampled` is the model's own answer. None means that `response` is the model's answer. `earlier` is the
        `_policy` of the call that has begun the answer, if `reply` contains only the rest.
        """
        if earlier is not None:
            return earlier(None)[0], self._policy(reply, response, sampled)[1]
        response = sampled or response
        extra = response.extra if response is not None else None
        return self._pauses.versions(reply.in_flight, versions_in(extra) if extra else ())

    async def _answer_whole(
        self, exchange: ExchangeState, reply: ProviderReply, call: ProviderRequest
    ) -> None:
        response, body = await self._read_whole(reply, call)
        if call.collector is not None:
            exchange.tokens = partial(call.collector.tokens, response.usage, reply.in_flight.version)
        reply.patience.stop()
        if exchange.dialect == self.dialect:
            await exchange.respond(response, None if exchange.request.stream else body)
        else:
            named = msgspec.structs.replace(response, model="")  # the agent keeps the name that it requested
            await exchange.respond(named)

    async def _answer_stream(
        self,
        exchange: ExchangeState,
        reply: ProviderReply,
        call: ProviderRequest,
        begin: Callable[[], Awaitable[ResponseStream]],
        rest: Rest | None,
    ) -> None:
        """Pass the provider's stream on to the stream that `begin` returns.

        `rest` is None unless the stream is the rest of an answer.
        """
        same_dialect, collector = exchange.dialect == self.dialect, call.collector
        pieces = await self._pieces(reply, call, exchange if same_dialect and rest is None else None)
        try:
            piece = await pieces.next()
            stream = await begin()
            while piece is not None:
                if piece.last:
                    reply.patience.stop()
                if collector is not None:
                    version = reply.in_flight.version
                    exchange.tokens = partial(collector.tokens, _usage_of(piece), version, whole=piece.last)
                if rest is not None:
                    piece = Relayed(
                        None, tuple([new for event in piece.events for new in rest.placed(event)])
                    )
                await self._pass(piece, stream, exchange, reply, same_dialect=same_dialect)
                piece = await pieces.next()
        except UpstreamError as exc:
            whole = Response(()) if exchange.fold is None else exchange.fold.response()
            text = whole.text[len(rest.begun.text) if rest is not None else 0 :]
            parser = pieces.parser if isinstance(pieces, Pieces) else None
            is_empty = not text and all(type(part) is Text for part in whole.content)
            # If vLLM 0.32 aborts a call before the first token, its stream contains no finish reason.
            has_ended = parser is not None and parser.has_ended and isinstance(exc, UpstreamTruncated)
            if has_ended and is_empty and await self._pauses.can_continue():
                exc.code = ABORTED
            if exc.code == ABORTED and exchange.fold is not None and parser is not None:
                content = (Text(text),) if text else ()
                part = msgspec.structs.replace(whole, content=content, usage=parser.usage)
                reply.in_flight.partial = part
                if collector is not None:
                    version = reply.in_flight.version
                    reply.in_flight.tokens = collector.tokens(part.usage, version, whole=False)
            raise

    async def _pass(
        self,
        piece: Relayed,
        stream: ResponseStream,
        exchange: ExchangeState,
        reply: ProviderReply,
        *,
        same_dialect: bool,
    ) -> None:
        """Send `piece`, one piece of a provider's stream, to the agent.

        While the agent's connection is full, the limit of the provider's silence does not run.
        """
        answer, patience = exchange.answer, reply.patience
        try:
            if same_dialect:
                if waits := answer.is_full:
                    patience.pause(True)
                await stream._relay(piece)
                if waits:
                    patience.pause(False)
                return
            for event in piece.events:
                if waits := answer.is_full or joins(stream):
                    patience.pause(True)
                if isinstance(event, ResponseStart):  # the agent keeps the model's name that it requested
                    event = msgspec.structs.replace(event, model="")
                await stream.send(event)
                if waits:
                    patience.pause(False)
        except DialectError as exc:  # events in an order that no answer has
            raise self._reader.unreadable(exc, b"", reply.headers) from exc

    async def _read_whole(self, reply: ProviderReply, call: ProviderRequest) -> tuple[Response, bytes | None]:
        """Return a whole answer, and its JSON body for the agent.

        The body is None if the provider has sent a stream, although none was requested.
        """
        # transformers serve's Responses stream by default.
        if reply.media_type == self._codec.stream_types[0]:
            pieces = self._streamed(reply, call)
            events: list[Event] = []
            while (piece := await pieces.next()) is not None:
                events += piece.events
            try:
                return assemble(events), None
            except DialectError as exc:
                raise self._reader.unreadable(exc, b"", reply.headers) from exc
        body, collector = await reply.read(), call.collector
        if collector is not None:
            body = collector.document(body)
        try:
            response = self._reader.response(body, reply.headers)
        except UpstreamError as exc:
            if exc.code == ABORTED and (part := partial_answer(self._codec, body)) is not None:
                reply.in_flight.partial = part
                if collector is not None:
                    reply.in_flight.tokens = collector.tokens(
                        part.usage, reply.in_flight.version, whole=False
                    )
            raise
        if call.names is not None:
            response = call.names.response(response)
        if collector is not None and collector.prompt_text is not None:
            await self._find_prompt(call, collector, collector.prompt_text, reply.patience)
        return response, body

    async def _find_prompt(
        self, call: ProviderRequest, collector: Collector, sent: str, patience: Patience
    ) -> None:
        """Fetch the token ids of a prompt that the server has sent as text.

        If the calls fail, the turn does not contain these ids.

        For some tokenizers, llama.cpp sends a changed text (`find .` becomes `find.`), which has other token ids. So
        the server is called to render the messages once more. If this call fails, or if the two texts differ in more
        than blanks, the ids of the server's first text are used.
        """
        rendered = await self._beside("/apply-template", decode_json(call.body), patience)
        prompt = rendered.get("prompt")
        if not isinstance(prompt, str) or _without_blanks(prompt) != _without_blanks(sent):
            prompt = sent
        document = {"content": prompt, "add_special": True, "parse_special": True}
        collector.take_prompt((await self._beside("/tokenize", document, patience)).get("tokens"))

    async def _beside(self, path: str, document: Json, patience: Patience) -> dict[str, Json]:
        """Call a route of the server that is not a model call.

        Return the JSON object in the response, or {} on failure.
        """
        try:
            call = self._requests.of_provider(ProviderCall(path=path, document=document, at_root=True))
            async with self._transport.open(call, patience) as reply:
                answer = decode_json(await reply.read())
        except (UpstreamError, DialectError):
            return {}
        return answer if isinstance(answer, dict) else {}

    async def _pieces(
        self, reply: ProviderReply, call: ProviderRequest, own: ExchangeState | None = None
    ) -> Pieces | _Whole:
        """Return the pieces of a streamed answer. A whole answer of the provider is returned as a single piece.

        `own` is the exchange whose agent gets the provider's bytes unchanged. None means that the agent's dialect
        differs from the provider's, so that the events are translated.
        """
        if reply.media_type == "application/json" and reply.media_type not in self._codec.stream_types:
            response, _ = await self._read_whole(reply, call)
            return _Whole(Relayed(b"", tuple(events_of(response))))
        return self._streamed(reply, call, own)

    def _streamed(
        self, reply: ProviderReply, call: ProviderRequest, own: ExchangeState | None = None
    ) -> Pieces:
        relay = Relay(
            self._codec.stream_parser(),
            None if call.collector is None else call.collector.frame,
            hold_calls=own is not None and self._hold_calls,
            most_held=MAX_DOCUMENT if own is None else own.rollout.addresses.limits.answer_bytes,
        )
        pass_on = None if own is None else own.write_early
        return Pieces(reply, relay, self._reader, names=call.names, pass_on=pass_on)


def pauses_of(upstream: Upstream) -> Pauses:
    return upstream._pauses


class _Whole:
    """A whole answer of a provider, with the methods of `Pieces`. It is read like a stream with one piece."""

    def __init__(self, piece: Relayed) -> None:
        self._piece: Relayed | None = piece

    async def next(self) -> Relayed | None:
        await trio.lowlevel.checkpoint()
        piece, self._piece = self._piece, None
        return piece


@shown_context
async def open_upstream(
    base_url: str,
    *,
    dialect: str | Dialect,
    api_key: str | None = None,
    model: str | None = None,
    sampling: Sampling | None = None,
    extra_body: Mapping[str, Json] | None = None,
    extra_headers: Mapping[str, str] | None = None,
    concurrency: int | None = None,
    retries: int = 0,
    connect_timeout: float | None = CONNECT_TIMEOUT,
    read_timeout: float | None = None,
    total_timeout: float | None = None,
    tokens: TokenProfile | None = None,
    max_output_tokens: int | None = None,
    hold_calls: bool = True,
    session_header: str | None = "X-Session-ID",
    finish_session: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Upstream]:
    """Open a connection to a provider, and yield its model as a handler to which exchanges are forwarded.

    For example::

        async with open_upstream("https://api.openai.com/v1", dialect="openai_chat", api_key=key) as upstream:
            async with endpoint.open_rollout(upstream) as rollout:
                await rollout.run_agent(["claude", "-p", "fix the bug"])

    The agent may use any dialect. If the agent uses the provider's own dialect, the request's JSON body is sent
    unchanged, and the answer is passed on byte for byte. For any other dialect, the request is translated as a whole,
    and the answer is translated event by event.

    Args:
        base_url: the base URL in the form that the provider's own SDK expects: with `/v1` for OpenAI's dialects,
            without `/v1` for Anthropic's, Google's and Ollama's. A query in the URL is sent with every call.
        dialect: the provider's dialect: `openai_chat`, `openai_responses`, `openai_completions`, `anthropic_messages`,
            `gemini`, `ollama`; the name of a dialect from an installed package (see `triocept.dialects`), or a
            `Dialect`.
        api_key: the provider's key, sent in the form that the dialect's providers expect. None means no key; an empty
            key is an error. The key is removed from the provider's error messages. A key of fewer than 8 characters
            ("x", "EMPTY") does not count as a secret, and is not removed.
        model: the name of the model to request. None means the model that the agent requests.
        sampling: sampling parameters. Each parameter that is set replaces the agent's parameter.
        extra_body: fields of the JSON body that is sent, with the provider's field names. Objects are merged with the
            existing objects, and None removes a field.
        extra_headers: headers for every call. These headers replace the agent's headers with the same names.
        concurrency: maximum concurrent calls. When exceeded: further calls wait, and the waiting rollouts are served in
            rotation. None means any number.
        retries: maximum retries of a call that failed before the first byte of its answer, with an error that could be
            temporary (408, 409, 429, 500 and above, no connection). The first pause is 0.5 s, and each further pause is
            twice as long. If the response has `retry-after`, the pause is the time in this header, up to 60 s.
        connect_timeout: maximum seconds for connecting, in each try. None means no limit.
        read_timeout: maximum seconds without a byte of the answer, before the answer or within it. Comments and pings
            are not part of the answer. None means `upstream_idle_seconds` of the endpoint's `EndpointLimits` (default:
            600), and no limit for `fetch` and `open_response`. `math.inf` means no limit.
        total_timeout: maximum seconds for a whole call, including its retries and its wait for a slot. None means
            `upstream_seconds` of the endpoint's `EndpointLimits` (default: 3600), and no limit for `fetch` and
            `open_response`. `math.inf` means no limit.
        tokens: the kind of server (`vllm`, `sglang` or `llama_cpp`). `turn.tokens` then contains the ids and the log
            probabilities of tokens. When the upstream is opened, one call checks that the server sends tokens, so
            `model` must be given. None means that no tokens are recorded.
        max_output_tokens: maximum output tokens that a call requests, even if the agent requests more. None means no
            maximum. If a provider refuses the number that a call requests, the call is sent again with the number that
            the refusal allows, even if `max_output_tokens` is None.
        hold_calls: if True, the first tool call of a streamed answer, and everything after it, is sent only when the
            answer is complete. The reason: an agent runs a call as soon as the call is complete. If the answer then
            fails, the agent requests the answer again, and runs the call a second time. If False, calls are streamed
            when they arrive.
        session_header: name of a header that contains the rollout's id, in each call. A router in front of several
            servers can then send all calls of a rollout to the server that has the rollout's prompts in its cache.
            vllm-router reads such a header with `--request-id-headers x-session-id`; SGLang's gateway reads
            `X-SMG-Routing-Key`. None means no such header.
        finish_session: path, relative to the server's root, to which a POST is sent when a rollout that has called this
            upstream ends. `{id}` in the path is replaced by the rollout's id: `/finish_session?session_id={id}` for
            SkyRL. The call may take 10 s. A failure of the call is only logged. None means that no such call is sent.
        tls: TLS settings. None means that the system's certificates are trusted.

    A proxy that the environment names is used (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, except for hosts in
    `NO_PROXY`). A provider on this machine (`localhost`, 127.0.0.0/8, `::1`) is called directly.

    Closing: the connections are closed, and running calls fail. Later calls raise `trio.ClosedResourceError`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the URL, the dialect or `tokens` is invalid, a number is out of range, or the key cannot be sent.
            This error is also raised if a server of the kind that `tokens` names sends no tokens in this dialect. It is
            also raised if a variable of the environment names a proxy that cannot be used.
        ModuleNotFoundError: a variable of the environment names a SOCKS proxy, and the package socksio is missing.
        UpstreamError: with `tokens`, the server does not send tokens, or cannot be reached.
    """
    check_loop("open_upstream")
    address = parse_address(base_url)
    if not isinstance(dialect, Dialect):
        check_type("dialect", dialect, str, "a name or a triocept.dialects.Dialect")
        dialect = dialect_named(dialect)
    key = key_of(api_key)
    check_overrides(model, sampling)
    check_body(extra_body)
    check_headers(extra_headers)
    check_timeouts(connect_timeout=connect_timeout, read_timeout=read_timeout, total_timeout=total_timeout)
    for name, number in (("concurrency", concurrency), ("max_output_tokens", max_output_tokens)):
        if number is not None:
            check_count(name, number, least=1)
    check_count("retries", retries)
    check_bool("hold_calls", hold_calls)
    check_session(session_header, finish_session)
    check_tls(tls)
    profile = None if tokens is None else profile_named(tokens, dialect.name)
    if profile is not None and model is None:
        raise ValueError(
            "tokens= needs model=: a test call at the start, which checks the tokens, must name a model"
        )
    overrides = Overrides(
        model=model,
        sampling=sampling,
        extra_body=extra_body or {},
        extra_headers=extra_headers or {},
        max_output_tokens=max_output_tokens,
    )
    from .transport import open_provider_client  # imports httpx2, which takes a fifth of a second to load

    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(
            open_provider_client(connect_timeout=connect_timeout, tls=tls, address=address)
        )
        sessions = None
        if finish_session is not None:
            sessions = await stack.enter_async_context(open_sessions(finish_session))
        upstream = Upstream(
            address,
            dialect,
            transport=transport,
            api_key=key,
            overrides=overrides,
            limiter=Limiter(concurrency),
            retries=retries,
            read_timeout=read_timeout,
            total_timeout=total_timeout,
            profile=profile,
            hold_calls=hold_calls,
            session_header=session_header,
            sessions=sessions,
        )
        stack.push_async_callback(upstream._pauses.close)
        for secret in (key, *secrets_in(overrides.extra_headers)):
            stack.enter_context(LIVE_KEYS.holding(secret))
        if profile is not None:
            await upstream._probe()
        yield upstream


def _given(who: str, request: object) -> Request:
    try:
        return given_request(who, request)
    except (TypeError, ValueError) as exc:
        raise exc.with_traceback(None) from None  # the relevant line is the caller's


class _Sampled:
    """Collects a streamed answer that the program fetches for an exchange, so that the turn can record the answer."""

    def __init__(self, exchange: ExchangeState, collector: Collector | None, version: str | None) -> None:
        self._exchange = exchange
        self._collector = collector
        self._version = version
        self._fold = Fold()
        exchange.sampled = self._fold.response

    def add(self, piece: Relayed) -> None:
        for event in piece.events:
            self._fold.add(event)
        if self._collector is not None:
            usage = _usage_of(piece)
            self._exchange.tokens = partial(self._collector.tokens, usage, self._version, whole=piece.last)


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _usage_of(piece: Relayed) -> Usage | None:
    end = piece.events[-1] if piece.events else None
    return end.usage if isinstance(end, ResponseEnd) else None
