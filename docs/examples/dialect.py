import json

import httpx2
import trio
import triocept
from triocept.dialects import Dialect, Failure, StreamParser, StreamRenderer
from triocept.dialects.kit import (
    LINE_FRAMES,
    EventBuilder,
    Fields,
    LineDecoder,
    decode_json,
    encode_line,
    error_of,
    portable,
    status_of,
)
from triocept.errors import DialectError, UpstreamTruncated
from triocept.types import (
    Message,
    PartDelta,
    PartStart,
    Request,
    Response,
    ResponseEnd,
    ResponseStart,
    Text,
)

NAME = "chirp"
ROLES = {"boss": "system", "you": "user", "me": "assistant"}
WORDS = {role: word for word, role in ROLES.items()} | {"developer": "boss"}


# As a server: what an agent asks, and what it is answered


def parse_request(document, target, memory) -> Request:
    fields = Fields(document)  # its errors name the path: talk[0].who
    return Request(
        dialect=NAME,
        model=fields.need_text("bird"),
        messages=tuple([message(item, path) for path, item in fields.items("talk")]),
        stream=bool(fields.flag("live")),
        extra=fields.rest(),  # what nobody has read is kept
    )


def message(item, path) -> Message:
    fields = Fields(item, path)
    who = fields.need_text("who")
    if who not in ROLES:
        raise DialectError(f"there is no {who!r}", path=fields.at("who"))
    said = fields.need_text("say")
    return Message(ROLES[who], (Text(said),), extra=fields.rest())


def render_response(response, request):
    return {"bird": response.model, "say": response.text, "end": response.stopped}


def render_error(failure):
    return {"oops": failure.message, "status": failure.status}


class Renderer(StreamRenderer):  # one for each streamed answer
    def __init__(self, request) -> None:
        self.texts = set()  # other parts are reasoning, say: it has no word for that

    def render(self, event) -> bytes:
        match event:
            case ResponseStart():
                return encode_line({"bird": event.model})
            case PartStart(index=index, part=Text(text=text)):
                self.texts.add(index)
                return encode_line({"say": text}) if text else b""
            case PartDelta(index=index, text=text) if index in self.texts:
                return encode_line({"say": text})
            case ResponseEnd():
                return encode_line({"end": event.stop_reason})
        return b""

    def fail(self, failure) -> bytes:
        return encode_line(render_error(failure))

    def keepalive(self, response_id="") -> bytes:
        return b"\n"


# As a client: the reverse of each


def render_request(request):
    said = [(m.role, m.text) for m in portable(request.messages) if m.role in WORDS]
    talk = [{"who": WORDS[role], "say": text} for role, text in said]
    return {"bird": request.model, "talk": talk, "live": request.stream}


def parse_response(document) -> Response:
    fields = Fields(document)
    said = Text(fields.need_text("say"))
    return Response((said,), model=fields.text("bird") or "", dialect=NAME)


def parse_error(status, document) -> Failure:
    fields = Fields(document if isinstance(document, dict) else {})
    return Failure(
        status=status_of(fields.take("status"), status),
        message=fields.text("oops") or str(document),
    )


class Parser(StreamParser):  # one for each stream of a provider
    frame_end = LINE_FRAMES

    def __init__(self) -> None:
        self.lines, self.parts = LineDecoder(), EventBuilder()
        self.ended = False

    @property
    def ending(self) -> bool:
        return self.ended

    def feed(self, data):
        return [event for line in self.lines.feed(data) for event in self.read(line)]

    def read(self, line):
        document = decode_json(line) if line.strip() else {}
        if "oops" in document:
            raise error_of(parse_error(502, document))
        events = []
        if "bird" in document:
            events.append(ResponseStart(model=document["bird"], dialect=NAME))
        if "say" in document:
            self.parts.text(Text(""), document["say"], events)
        if "end" in document:
            self.ended = True
            self.parts.close(events)
            events.append(ResponseEnd(stop_reason=document["end"]))
        return events

    def close(self):  # the last line may have no end of its own
        events = [event for line in self.lines.close() for event in self.read(line)]
        if not self.ended:
            raise UpstreamTruncated("the bird fell silent before its end")
        return events


CHIRP = Dialect(
    name=NAME,
    route="/chirp",
    parse_request=parse_request,
    render_response=render_response,
    stream_renderer=Renderer,
    render_error=render_error,
    render_request=render_request,
    parse_response=parse_response,
    stream_parser=Parser,
    parse_error=parse_error,
    transcript="talk",  # the field that has the conversation
    stream_types=("application/x-ndjson",),
    as_it_came=lambda document, request: True,  # it asks for a stream by `live`
    tools=False,
)


async def answer(exchange: triocept.Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("tweet, ")
        await stream.send(exchange.request.user_text)


async def main() -> None:
    async with (
        triocept.serve_endpoint(dialects=[CHIRP]) as endpoint,
        endpoint.open_rollout(answer) as rollout,
        httpx2.AsyncClient() as client,
    ):
        for live in (False, True):
            asked = {
                "bird": "wren",
                "talk": [{"who": "you", "say": "hi"}],
                "live": live,
            }
            told = await client.post(
                f"{rollout.base_url('chirp')}/chirp",
                json=asked,
                headers={"authorization": f"Bearer {rollout.api_key}"},
            )
            print(*map(json.loads, told.text.splitlines()), sep="\n")
        async with triocept.open_upstream(
            rollout.base_url("chirp"), dialect=CHIRP, api_key=rollout.api_key
        ) as model:  # and an agent that speaks another dialect is answered by a bird
            async with endpoint.open_rollout(model) as other:
                async with other.client("openai_chat") as openai:
                    completion = await openai.chat.completions.create(
                        model="wren", messages=[{"role": "user", "content": "ho"}]
                    )
                    print(completion.choices[0].message.content)


trio.run(main)
