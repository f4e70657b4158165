"""The Quart-Trio application, with the routes for all requests that have a key and are not model calls.

These routes are: the list of models, the counting of tokens, the requests that agents send before their first model
call, and the services of a rollout, such as its tools. Public routes, and requests without a key, are answered without
this application (`replies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from .._canonical.content import Json
from .._rollout.answer import ClientGone
from .._rollout.rollout_state import RolloutState
from ..dialects import Dialect
from ..errors import DialectError, Refusal
from .front import HEAD, READ_DOCUMENT, ROLLOUT_KEY
from .keys import Keys
from .model_views import View, add_model_views, add_side_views, client_dialect
from .replies import Replies, url_map
from .service_views import add_service_views
from .transport import BodyTooLarge, Reply


def make_app(keys: Keys, dialects: Mapping[str, Dialect], replies: Replies) -> QuartTrio:
    """Return the Quart-Trio application of one endpoint.

    The application gets the paths of requests without the rollout's prefix.
    """
    app = QuartTrio("triocept", static_folder=None)
    # Quart cuts a stream after 60 s, and a body at 16 MiB (it does not get the body: see `Front`).
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    app.url_map = url_map(tuple(dialects.values()))

    def view(function: View) -> View:
        app.view_functions[function.__name__] = function
        return function

    def _rollout() -> RolloutState:
        scope: Any = request.scope
        return keys.rollout(scope[HEAD], scope[ROLLOUT_KEY])

    def _rollout_of_state() -> RolloutState:
        scope: Any = request.scope
        return keys.rollout_of_state(scope[HEAD], scope[ROLLOUT_KEY])

    async def document(optional: bool = False) -> Json:
        scope: Any = request.scope
        return await scope[READ_DOCUMENT](optional)

    add_model_views(view, _rollout, dialects)
    add_side_views(app.view_functions.__setitem__, _rollout, document, dialects)
    add_service_views(view, _rollout, _rollout_of_state, document, dialects)

    @app.after_request
    async def identify(response: Response) -> Response:
        scope: Any = request.scope
        name = client_dialect(dialects, request.path, scope[HEAD].headers).request_id_header
        if name and name not in response.headers:
            response.headers[name] = f"req_{token_hex(8)}"
        return response

    @app.errorhandler(Refusal)
    @app.errorhandler(DialectError)
    @app.errorhandler(BodyTooLarge)
    async def refused(exc: Exception) -> Response:
        scope: Any = request.scope
        return _response(replies.refused(scope[HEAD], exc))

    @app.errorhandler(ClientGone)
    async def gone(exc: ClientGone) -> Response:
        return Response(b"", status=400)  # the client is gone

    @app.errorhandler(HTTPException)
    async def http_error(exc: HTTPException) -> Response:
        scope: Any = request.scope
        return _response(replies.failed(scope[HEAD], exc))

    return app


def _response(reply: Reply) -> Response:
    return Response(reply.body, status=reply.status, headers=reply.headers)
