"""Through a pair and back.

A request goes from an agent of one dialect to a provider of another, and is said again in the agent's dialect. An
answer goes from the provider to the agent, whole and streamed; what an agent sends back in its history goes on to the
provider. Everything really crosses each wire: it is written, made bytes, and read.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from triocept._canonical.content import Message
from triocept._canonical.events import Event, assemble, events_of
from triocept._canonical.request import Request
from triocept._canonical.response import Response
from triocept.dialects import DIALECTS, Dialect, Failure
from triocept.dialects._tool_names import ToolNames
from triocept.dialects.kit import decode_json, encode_json, error_of
from triocept.errors import DialectError

from .answers import ANSWERS, FAULTS
from .feature import Answer, Ask, Fault, Feature
from .history import HISTORY
from .requests import HI, REQUESTS

__all__ = ["FEATURES", "NAMES", "STREAM_ONLY", "UNSAID", "Feature", "walk"]

NAMES = ("openai_chat", "openai_completions", "openai_responses", "anthropic_messages", "gemini", "ollama")
FEATURES: list[Feature] = [*HISTORY, *REQUESTS, *ANSWERS, *FAULTS]
UNSAID = "-"
STREAM_ONLY = f"whole: {UNSAID}; streamed: "
REFUSED = "refused"


def walk(feature: Feature, start: str, end: str) -> str:
    """Return `-` (no words for it), `kept`, `lost`, `refused` or what it became, and behind a bar what came back."""
    if isinstance(feature, Ask):
        return _asked(feature, DIALECTS[start], DIALECTS[end])
    if isinstance(feature, Fault):
        return _failed(feature, DIALECTS[start], DIALECTS[end])
    assert isinstance(feature, Answer)
    return _answered(feature, DIALECTS[start], DIALECTS[end])


def _asked(feature: Ask, agent: Dialect, provider: Dialect) -> str:
    wanted = feature.make(agent.name)
    said = wanted and _tried(_cross_request, wanted, agent)
    if wanted is None or not isinstance(said, Request) or feature.look(said) != feature.look(wanted):
        return UNSAID
    before = feature.look(said)
    there = _tried(_cross_request, _sent_up(said, provider), provider)
    if isinstance(there, str):
        return there
    back = _tried(_cross_request, there, agent)
    outward = feature.verdict(before, feature.look(there))
    inward = back if isinstance(back, str) else feature.verdict(before, feature.look(back))
    return outward if inward == outward or outward == "lost" else f"{outward} | {inward}"


def _answered(feature: Answer, provider: Dialect, agent: Dialect) -> str:
    wanted = feature.make(provider.name)
    if wanted is None:
        return UNSAID
    found = [_told(feature, wanted, cross, provider, agent) for cross in (_cross_whole, _cross_stream)]
    return found[0] if found[0] == found[1] else f"whole: {found[0]}; streamed: {found[1]}"


def _told(feature: Answer, wanted: Response, cross: Any, provider: Dialect, agent: Dialect) -> str:
    fields = dict(feature.fields)
    asked = Request(dialect=agent.name, model="m", messages=HI, **fields)
    said = _tried(cross, wanted, provider, msgspec.structs.replace(asked, dialect=provider.name))
    if not isinstance(said, Response):
        return UNSAID
    before = feature.look(_sent_back(said, provider, asked) if feature.replayed else said)
    if before != feature.look(_history(wanted) if feature.replayed else wanted):
        return UNSAID
    there = _tried(cross, said, agent, asked)
    if isinstance(there, str):
        return there
    if not feature.replayed:
        return feature.verdict(before, feature.look(there))
    back = _tried(_cross_request, _sent_back(there, agent, asked), provider)
    return back if isinstance(back, str) else feature.verdict(before, feature.look(back))


def _failed(feature: Fault, provider: Dialect, agent: Dialect) -> str:
    failure = feature.make(provider.name)
    said = provider.parse_error(failure.status, provider.render_error(failure))
    error = error_of(said)
    relayed = Failure(status=error.status or 502, message=error.args[0])
    there = agent.parse_error(relayed.status, agent.render_error(relayed))
    return feature.verdict(feature.look(said), feature.look(there))


def _history(answer: Response) -> Request:
    """The conversation of somebody who got this answer."""
    return Request(dialect=answer.dialect, model="m", messages=(*HI, Message("assistant", answer.content)))


def _sent_back(answer: Response, agent: Dialect, asked: Request) -> Request:
    """The next request of an agent that got this answer, and that puts it into its history as it came."""
    document = decode_json(encode_json(agent.render_response(answer, asked)))
    user = {"role": "user", "content": "hi"}
    match agent.name:
        case "openai_chat":
            sent = {"model": "m", "messages": [user, document["choices"][0]["message"], user]}
        case "openai_responses":
            sent = {"model": "m", "input": [user, *document["output"], user]}
        case "anthropic_messages":
            said = {"role": "assistant", "content": document["content"]}
            sent = {"model": "m", "max_tokens": 9, "messages": [user, said, user]}
        case "gemini":
            parts = {"role": "user", "parts": [{"text": "hi"}]}
            sent = {"model": "m", "contents": [parts, document["candidates"][0]["content"], parts]}
        case "ollama":
            sent = {"model": "m", "messages": [user, document["message"], user]}
        case _:
            sent = {"model": "m", "prompt": document["choices"][0]["text"]}
    return agent.parse_request(sent)


def _sent_up(request: Request, provider: Dialect) -> Request:
    """As an upstream sends it."""
    own = request.dialect == provider.name
    return request if own else ToolNames(request, provider).request(request)


def _tried(cross: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return cross(*arguments)
    except DialectError:
        return REFUSED


def _cross_request(request: Request, dialect: Dialect) -> Request:
    """Say it to a provider of this dialect, or, where it is of this dialect, as its agent does."""
    path, _, query = dialect.path(request).partition("?")
    target = dialect.match(path, query)
    assert target is not None
    return dialect.parse_request(decode_json(encode_json(dialect.render_request(request))), target)


def _cross_whole(response: Response, dialect: Dialect, request: Request) -> Response:
    return dialect.parse_response(decode_json(encode_json(dialect.render_response(response, request))))


def _cross_stream(response: Response, dialect: Dialect, request: Request) -> Response:
    request = msgspec.structs.replace(request, stream=True)
    renderer, parser = dialect.stream_renderer(request), dialect.stream_parser()
    events: list[Event] = []
    for event in events_of(response):
        events += parser.feed(renderer.render(event))
    return assemble([*events, *parser.close()])
