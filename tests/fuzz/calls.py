"""Model calls without a socket: a body goes through `intake` to a real rollout, and what comes back is read."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import trio
import trio.testing

from triocept import Endpoint, EndpointLimits, Exchange, Response, Rollout, serve_endpoint
from triocept._canonical.events import ResponseEnd, assemble
from triocept._canonical.request import Request
from triocept._rollout.answer import Condition
from triocept._server.admission import Admission, Share
from triocept._server.intake import Routes, intake
from triocept._server.keys import Keys
from triocept._server.transport import Head, Reply
from triocept.dialects import DIALECTS, Dialect
from triocept.dialects.kit import decode_json
from triocept.errors import DialectError

from .answers import Said, said
from .kind import expect
from .left import LogWatch, tasks, watched_log

MAX_BODY = 1024 * 1024


class Connection:
    """What `intake` reads from and writes to."""

    full = False

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.reply: Reply | None = None
        self.data = b""
        self.ended = False
        self.aborted = False

    async def receive_body(self, cap: int, share: Share) -> bytes:
        share.add(len(self._body))
        await trio.lowlevel.checkpoint()
        return self._body

    def on_gone(self, callback: Callable[[], None]) -> None:
        """It never is."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        expect(self.reply is None, "a request is answered twice")
        self.reply = Reply(status, dict(headers))

    def write(self, data: bytes, *, last: bool = False) -> bool:
        expect(self.reply is not None and not self.ended, "bytes behind the end of an answer")
        self.data += data
        self.ended = last
        return True

    def respond(self, reply: Reply) -> bool:
        self.start(reply.status, reply.headers)
        return self.write(reply.body, last=True)

    async def wait(self, news: Condition, until: float) -> None:
        with trio.CancelScope(deadline=until):
            await news.wait()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def abort(self) -> None:
        self.aborted = True
        await trio.lowlevel.checkpoint()


class Calls:
    """Makes them."""

    rollout: Rollout

    def __init__(self, endpoint: Endpoint, log: LogWatch) -> None:
        self.log = log
        self._endpoint = endpoint
        self._routes = Routes(DIALECTS.values())
        self._admission = Admission(EndpointLimits())
        self._answer = Response(())
        self._streamed = False
        self._exchanges = 0
        self._handled = 0

    async def handle(self, exchange: Exchange) -> None:
        self._exchanges += 1
        try:
            await self._answer_it(exchange)
        finally:
            self._handled += 1

    async def _answer_it(self, exchange: Exchange) -> None:
        if not self._streamed:
            await exchange.respond(self._answer)
            return
        async with exchange.open_stream() as stream:
            for part in self._answer.content:
                await stream.send(part)
            if self._answer.stop_reason is not None:
                await stream.send(ResponseEnd(self._answer.stop_reason))

    async def make(
        self,
        dialect: Dialect,
        target: str,
        body: bytes,
        answer: Response,
        request: Request | None,
        wanted: Said | None,
        *,
        streamed: bool,
    ) -> None:
        """One call, and what it must lead to: a refusal, where `request` is None; 500, where only `wanted` is."""
        path, _, query = target.partition("?")
        self._answer, self._streamed, self._exchanges, self._handled = answer, streamed, 0, 0
        route = self._routes.match(path, query)
        assert route is not None
        rollout = self.rollout
        head = Head(
            "POST",
            path,
            query,
            {"authorization": f"Bearer {rollout.api_key}", "content-type": "application/json"},
        )
        before, connection = tasks(), Connection(body)
        await intake(
            route,
            head,
            connection,
            Keys(self._endpoint._registry, DIALECTS.values()),
            MAX_BODY,
            self._admission,
        )
        await trio.testing.wait_all_tasks_blocked()
        expect(tasks() == before, "tasks are left", f"{before} became {tasks()}")
        expect(self._handled == self._exchanges, "a handler is left")
        expect(self._admission.waiting.bytes == 0, "bytes are said to wait", self._admission.waiting.bytes)
        self._judge(dialect, connection, request, wanted)

    def _judge(
        self, dialect: Dialect, connection: Connection, request: Request | None, wanted: Said | None
    ) -> None:
        reply = connection.reply
        expect(reply is not None, "a request is not answered")
        if connection.aborted:
            expect(request is not None and wanted is None, "an answer breaks off", connection.data[:300])
            return
        expect(connection.ended, "a request is not answered whole", connection.data[:300])
        if reply.status != 200:
            unsayable = request is not None and wanted is None
            expect(
                reply.status < 500 or unsayable,
                "an answer is a 5xx",
                f"{reply.status} {connection.data[:300]!r}",
            )
            expect(self._exchanges == (reply.status >= 500), "a refused request is an exchange", reply.status)
            decode_json(connection.data)
            return
        expect(request is not None, "an unreadable body is answered")
        expect(self._exchanges == 1, "a request is not one exchange", self._exchanges)
        if request.framing == "json_array" and request.stream:
            decode_json(connection.data)
            return
        got = _read(dialect, connection.data, request)
        expect(said(got) == wanted, "an answer is another", f"{said(got)} is not {wanted}")


def _read(dialect: Dialect, data: bytes, request: Request) -> Response:
    try:
        if not request.stream:
            return dialect.parse_response(decode_json(data))
        parser = dialect.stream_parser()
        return assemble([*parser.feed(data), *parser.close()])
    except DialectError as exc:
        expect(False, "an answer cannot be read", f"{exc}: {data[:500]!r}")
        raise


@asynccontextmanager
async def open_calls() -> AsyncIterator[Calls]:
    """An endpoint whose port nobody uses."""
    with watched_log() as log:
        async with serve_endpoint() as endpoint:
            calls = Calls(endpoint, log)
            async with endpoint.open_rollout(calls.handle, on_retry="new") as rollout:
                calls.rollout = rollout
                await trio.testing.wait_all_tasks_blocked()
                yield calls
        log.take()
