"""Offer the services of a rollout (tools, user, state, …) over plain HTTP and JSON, for clients without MCP.

=================================  =====================================  ==========================================
call                               body                                   answer
=================================  =====================================  ==========================================
`GET …/tools`                                                             `{"tools": […]}`, in the asking dialect
`POST …/tools/NAME`                `{"arguments": {…}}`                   `{"result": …}`
`POST …/user`                      a transcript, in the asking dialect    `{"messages": […]}`, in the asking dialect
`POST …/stop`                      a transcript; may be empty             `{"done": true, "reason": "…"}`
`POST …/gate`                      a question of the agent's hook         the decision (see `_rollout.hooks`)
`POST …/reset`                                                            `{"reset": true}`
`GET …/state`, `PUT …/state`       (`PUT`) the new state                  the state
`POST …/model`                     a model call, in the asking dialect    its answer (see `intake`)
=================================  =====================================  ==========================================

The asking dialect is the dialect that the query names (`?dialect=…`). If the query names no dialect, the asking dialect
is `anthropic_messages` for a request with the header `anthropic-version`, else `openai_chat`. A refusal or a failure is
answered with its HTTP status, and an error body in the asking dialect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from quart import Response, request

from .._canonical.content import Json, Message
from .._canonical.request import Request, Tool
from .._rollout.hooks import HOOKS, NEUTRAL
from .._rollout.rollout_state import RolloutState
from ..dialects import Dialect
from ..errors import DialectError, Refusal
from .model_views import USUAL, View, json_response


def add_service_views(
    view: Callable[[View], View],
    rollout_of: Callable[[], RolloutState],
    rollout_of_state: Callable[[], RolloutState],
    read_document: Callable[[bool], Awaitable[Json]],
    dialects: Mapping[str, Dialect],
) -> None:
    """Register the functions that answer service calls, by calling `view` with each function.

    `rollout_of` returns the rollout whose key the request contains. `rollout_of_state` returns the rollout whose state
    key the request contains. `read_document` returns the JSON in the request's body. If `read_document` is called with
    True, it returns None for an empty body.
    """

    async def _document() -> Json:
        return await read_document(True)

    @view
    async def list_tools() -> Response:
        tools = (made.tool for made in rollout_of().public.tools)
        return json_response({"tools": render_tools(tools, asking_dialect(dialects))})

    @view
    async def call_tool(name: str) -> Response:
        rollout = rollout_of()
        document = await _document()
        document = {} if document is None else document
        if not isinstance(document, dict) or set(document) - {"arguments"}:
            raise DialectError('the body must have the form {"arguments": {…}}')
        result = await rollout.services.call_tool(rollout, name, document.get("arguments", {}))
        return json_response({"result": result})

    @view
    async def ask_user() -> Response:
        rollout, dialect = rollout_of(), asking_dialect(dialects)
        said = await rollout.services.ask_user(rollout, _transcript(await _document(), dialect, rollout))
        return json_response({"messages": render_messages(said, dialect)})

    @view
    async def ask_stop() -> Response:
        rollout, dialect = rollout_of(), asking_dialect(dialects)
        messages = _transcript(await _document(), dialect, rollout)
        reason = await rollout.services.ask_stop(rollout, messages)
        return json_response({"done": reason is not None, "reason": reason})

    @view
    async def ask_gate(hook: str = "") -> Response:
        rollout, form = rollout_of(), HOOKS.get(hook) if hook else NEUTRAL
        if form is None:
            text = f"the path /gate/{hook} names an unknown agent {hook!r}; the agents are {', '.join(HOOKS)}"
            raise Refusal(404, text, should_retry=False)
        return json_response(await rollout.gate.ask(form, form.question(await _document())))

    @view
    async def reset() -> Response:
        rollout_of().reset_handler()
        return json_response({"reset": True})

    @view
    async def get_state() -> Response:
        rollout = rollout_of_state()
        return json_response(await rollout.services.get_state(rollout))

    @view
    async def put_state() -> Response:
        rollout = rollout_of_state()
        return json_response(await rollout.services.put_state(rollout, await _document()))


def asking_dialect(dialects: Mapping[str, Dialect]) -> Dialect:
    """Return the dialect in which the current request expects its response.

    Raises:
        Refusal: with 400, because the request names an unknown dialect.
    """
    always = (each for each in dialects.values() if each.default_headers)
    known = (each.name for each in always if all(name in request.headers for name in each.default_headers))
    name = request.args.get("dialect", next(known, USUAL))
    if name not in dialects:
        raise Refusal(
            400, f"unknown dialect {name!r}; the dialects are {', '.join(dialects)}", should_retry=False
        )
    return dialects[name]


def render_tools(tools: Iterable[Tool], dialect: Dialect) -> Json:
    asked = Request(dialect=dialect.name, model="m", messages=(), tools=tuple(tools))
    return _part_of(dialect.render_request(asked), "tools")


def render_messages(messages: Iterable[Message], dialect: Dialect) -> Json:
    said = Request(dialect=dialect.name, model="m", messages=tuple(messages))
    return _part_of(dialect.render_request(said), dialect.transcript)


def _part_of(document: Json, name: str) -> Json:
    return document.get(name, []) if isinstance(document, dict) else []


def _transcript(document: Json, dialect: Dialect, rollout: RolloutState) -> tuple[Message, ...]:
    """Return the messages in `document`, which has the format of a model call.

    Other fields of `document` are ignored.
    """
    if not (document is None or isinstance(document, dict)):
        raise DialectError("the body must be a JSON object")
    name = dialect.transcript
    if not document or not document.get(name):  # an empty conversation
        return ()
    return dialect.parse_request({"model": rollout.model, **dialect.required, **document}).messages
