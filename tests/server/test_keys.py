"""A request has one key: of two in headers of one name, a proxy may have looked at another than the endpoint."""

import dataclasses
import itertools
import json
from base64 import b64encode

import pytest

from tests.asking import CHAT, ask_body, connected, echo, read_answer
from tests.dialects.toy import TOY
from triocept import Rollout, serve_endpoint
from triocept._server.keys import Keys, text_headers
from triocept._server.transport import Head
from triocept.errors import Refusal

pytestmark = pytest.mark.usefixtures("every_way")

OWN = dataclasses.replace(TOY, key_headers=lambda key: {"X-Toy-Key": f"Key {key}"})
"""A dialect whose key is sent in a header and in a form of its own."""

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)
BODY = json.dumps(ask_body())
REQUESTS = {
    "a model call": f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n%s\r\n{BODY}",
    "another dialect": f"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n%s\r\n{BODY}",
    "another route": "GET /v1/models HTTP/1.1\r\nHost: a\r\n%s\r\n",
    "MCP": "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n%s\r\n",
    "a websocket": f"GET /v1/responses HTTP/1.1\r\nHost: a\r\n{UPGRADE}%s\r\n",
}


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("name", ["Authorization: Bearer", "X-Api-Key:", "X-Toy-Key: Key"])
async def test_two_keys_in_headers_of_one_name_are_refused(request_of: str, name: str) -> None:
    def lines(*rollouts: Rollout) -> str:
        return "".join(f"{name} {rollout.api_key}\r\n" for rollout in rollouts)

    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            for given in (lines(a, b), lines(a, a)):
                async with connected(endpoint.port) as stream:
                    await stream.send_all((REQUESTS[request_of] % given).encode())
                    answer = await read_answer(stream)
                    assert answer.startswith(b"HTTP/1.1 400")
                    assert b"send only one key" in answer
    assert len(a.trace) == len(b.trace) == 0


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize(
    ("first", "second"), [("Authorization: Bearer", "X-Api-Key:"), ("X-Api-Key:", "Api-Key:")]
)
async def test_the_keys_of_two_rollouts_are_refused_and_a_strangers_second_key_is_ignored(
    request_of: str, first: str, second: str
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            for key in (a.api_key, b.api_key, "sk-of-a-provider"):
                async with connected(endpoint.port) as stream:
                    given = f"{first} {a.api_key}\r\n{second} {key}\r\n"
                    await stream.send_all((REQUESTS[request_of] % given).encode())
                    answer = await stream.receive_some()
                    assert answer.startswith(b"HTTP/1.1 401") == (key == b.api_key)
                    if key == b.api_key:
                        names = [line.partition(":")[0].lower() for line in (first, second)]
                        said = "the header '{}' and the header '{}' contain keys of two rollouts".format(
                            *names
                        )
                        assert said.encode() in answer
    assert len(b.trace) == 0


DIGEST = "Authorization: Digest a=b, c=d\r\n"
REFUSED = {
    "a key alone, and another": (
        "Authorization: {a.api_key}\r\nX-Api-Key: {b.api_key}\r\n",
        "401 the header 'authorization' and the header 'x-api-key' contain keys of two rollouts",
    ),
    "two behind another scheme": (
        DIGEST + "X-Api-Key: {a.api_key}\r\nX-Goog-Api-Key: {b.api_key}\r\n",
        "401 the header 'x-api-key' and the header 'x-goog-api-key' contain keys of two rollouts",
    ),
    "a key, and one to a state": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {b.state_key}\r\n",
        "401 the header 'authorization' and the header 'x-api-key' contain keys of two rollouts",
    ),
    "a header twice behind a key": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {b.api_key}\r\nX-Api-Key: x\r\n",
        "400 the header 'x-api-key' contains several keys",
    ),
    "two in one header behind a key": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {a.api_key}, {b.api_key}\r\n",
        "400 the header 'x-api-key' contains several keys",
    ),
    "another key, and a text of a stranger behind it": (
        "Authorization: Bearer {a.api_key}\r\nX-Api-Key: {b.api_key}, x\r\n",
        "401 the header 'authorization' and the header 'x-api-key' contain keys of two rollouts",
    ),
    "another key in the subprotocols of a browser": (
        "X-Api-Key: {a.api_key}\r\nSec-WebSocket-Protocol: realtime\r\n"
        "Sec-WebSocket-Protocol: openai-insecure-api-key.{b.api_key}, x\r\nSec-WebSocket-Protocol: y\r\n",
        "401 the header 'x-api-key' and the header 'sec-websocket-protocol' contain keys of two rollouts",
    ),
    "only a key in the subprotocols of a browser": (
        "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{a.api_key}\r\n",
        "401 the header 'sec-websocket-protocol' contains a key, but not in a form that the endpoint reads: "
        "send the key as 'authorization: Bearer …'",
    ),
    "only a key that is all of the subprotocols": (
        "Sec-WebSocket-Protocol: {a.api_key}\r\n",
        "401 the header 'sec-websocket-protocol' contains a key, but not in a form that the endpoint reads: "
        "send the key as 'authorization: Bearer …'",
    ),
    "another scheme, then a key of it": (
        DIGEST + "Authorization: Bearer {b.api_key}\r\nX-Api-Key: {a.api_key}\r\n",
        "400 the header 'authorization' contains several keys",
    ),
    "another form, and another key": (
        "Authorization: Token {a.api_key}\r\nX-Api-Key: {b.api_key}\r\n",
        "401 the header 'authorization' and the header 'x-api-key' contain keys of two rollouts",
    ),
    "a tab after the scheme, and another key": (
        "Authorization: Bearer\t{a.api_key}\r\nApi-Key: {b.api_key}\r\n",
        "401 the header 'authorization' and the header 'api-key' contain keys of two rollouts",
    ),
    "a key behind a scheme that this header does not have": (
        "Authorization: Bearer {a.api_key}\r\nX-Goog-Api-Key: Bearer {b.api_key}\r\n",
        "401 the header 'authorization' and the header 'x-goog-api-key' contain keys of two rollouts",
    ),
    "another key in the header of a dialect": (
        "Authorization: Bearer {a.api_key}\r\nX-Toy-Key: Key {b.api_key}\r\n",
        "401 the header 'authorization' and the header 'x-toy-key' contain keys of two rollouts",
    ),
    "a key of a rollout that has ended": (
        "X-Api-Key: {a.api_key}\r\nAuthorization: Bearer {ended.api_key}\r\n",
        "401 the header 'authorization' and the header 'x-api-key' contain keys of two rollouts",
    ),
    "two keys in one header of another scheme": (
        "Authorization: Digest a={a.api_key}, b={b.api_key}\r\nX-Api-Key: {a.api_key}\r\n",
        "400 the header 'authorization' contains several keys",
    ),
    "only a key in another form": (
        "Authorization: Token {a.api_key}\r\n",
        "401 the header 'authorization' contains a key, but not in a form that the endpoint reads: "
        "send the key as 'authorization: Bearer …'",
    ),
    "only a key in another form of a dialect's header": (
        "X-Toy-Key: Token {a.api_key}\r\nAuthorization: Bearer sk-of-a-provider\r\n",
        "401 the header 'x-toy-key' contains a key, but not in a form that the endpoint reads: "
        "send the key as 'x-toy-key: Key …'",
    ),
}


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("given", REFUSED)
async def test_keys_that_a_proxy_may_have_read_differently_are_refused(request_of: str, given: str) -> None:
    lines, expected = REFUSED[given]
    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo, state={"a": 1}) as a:
        async with endpoint.open_rollout(echo) as ended:
            pass
        async with endpoint.open_rollout(echo, state={"b": 1}) as b, connected(endpoint.port) as stream:
            await stream.send_all((REQUESTS[request_of] % lines.format(a=a, b=b, ended=ended)).encode())
            answer = await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 " + expected[:3].encode())
            assert expected[4:].encode() in answer
    assert len(a.trace) == len(b.trace) == 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Authorization: Bearer {a.state_key}\r\n", 200),
        (DIGEST + "X-Api-Key: {a.state_key}\r\nApi-Key: {a.api_key}\r\n", 200),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: {b.state_key}\r\n", 401),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: {b.api_key}\r\n", 401),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: x\r\nX-Api-Key: x\r\n", 400),
        ("Authorization: Bearer {a.state_key}\r\nX-Toy-Key: Key {b.state_key}\r\n", 401),
        ("Authorization: Bearer {a.state_key}\r\nX-Api-Key: Token {b.state_key}\r\n", 401),
        ("X-Toy-Key: Key {a.state_key}\r\n", 200),
        ("X-Toy-Key: {a.state_key}\r\nX-Toy-Key: Key {a.state_key}\r\n", 400),
        ("Authorization: Token {a.state_key}\r\n", 401),
    ],
)
async def test_the_keys_of_two_rollouts_open_no_state(lines: str, status: int) -> None:
    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo, state={"a": 1}) as a:
        async with endpoint.open_rollout(echo, state={"b": 1}) as b, connected(endpoint.port) as stream:
            request = f"GET /state HTTP/1.1\r\nHost: a\r\n{lines.format(a=a, b=b)}\r\n"
            await stream.send_all(request.encode())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 %d" % status)


LEFTOVERS = [
    "Authorization: Bearer dummy",
    "Authorization: Bearer sk-ant-oat01-of-a-subscription",
    f"Authorization: Basic {b64encode(b'user:password').decode()}",
    "Authorization: Digest a=b, c=d",
    "Authorization: token ghp_of_another_service",
    "Authorization: Bearer x, y",
    "Authorization: Bearer a%2Cb",
    "Api-Key: a,b",
    "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-of-a-provider",
    "Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Protocol: openai-beta.realtime-v1",
    "X-Goog-Api-Key: AIza-of-a-provider",
    "X-Toy-Key: Key of-a-provider",
    f"Proxy-Authorization: Basic {b64encode(b'user:password').decode()}",
    "Cookie: session=abc",
]


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("leftover", LEFTOVERS)
async def test_a_rollouts_key_is_found_beside_what_agents_send_to_others(
    request_of: str, leftover: str
) -> None:
    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo), connected(endpoint.port) as stream:
            request = REQUESTS[request_of].replace(" HTTP/1.1", "?key=AIza-of%%2Da-provider HTTP/1.1")
            await stream.send_all((request % f"{leftover}\r\nX-Api-Key: {a.api_key}\r\n").encode())
            answer = await stream.receive_some()
            assert not answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403"))
            assert b"send one key" not in answer


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("encoded", ["-", "%%2D", "%%252d", "%%25252D"])
async def test_a_key_in_the_query_of_another_rollout_is_refused_and_alone_it_is_not_read(
    request_of: str, encoded: str
) -> None:
    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            bearer = f"Authorization: Bearer {a.api_key}\r\n"
            for given, key, words in (
                (bearer, a.api_key, ""),
                (bearer, b.api_key, "the header 'authorization' and the query contain keys of two rollouts"),
                ("", a.api_key, "the query contains a key, but not in a form that the endpoint reads"),
            ):
                query = key.replace("-", encoded)
                request = REQUESTS[request_of].replace(" HTTP/1.1", f"?key={query} HTTP/1.1")
                async with connected(endpoint.port) as stream:
                    await stream.send_all((request % given).encode())
                    answer = await stream.receive_some()
                assert answer.startswith(b"HTTP/1.1 401") == (words != "")
                assert words.encode() in answer
    assert len(b.trace) == 0


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("authority", ["http://user:{}@host", "HTTPS://{}@host", "http://{}"])
@pytest.mark.parametrize("encoded", ["-", "%%2D"])
async def test_a_key_in_an_absolute_url_of_another_rollout_is_refused_and_alone_it_is_not_read(
    request_of: str, authority: str, encoded: str
) -> None:
    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            bearer = f"Authorization: Bearer {a.api_key}\r\n"
            for given, text, words in (
                (bearer, "of-a-provider", ""),
                (bearer, a.api_key, ""),
                (bearer, b.api_key, "'authorization' and the host of the URL contain keys of two rollouts"),
                (
                    "",
                    a.api_key,
                    "the host of the URL contains a key, but not in a form that the endpoint reads",
                ),
            ):
                request = REQUESTS[request_of].replace(
                    " /", f" {authority.format(text.replace('-', encoded))}/", 1
                )
                async with connected(endpoint.port) as stream:
                    await stream.send_all((request % given).encode())
                    answer = await stream.receive_some()
                assert answer.startswith(b"HTTP/1.1 401") == (words != ""), text
                assert words.encode() in answer
    assert len(b.trace) == 0


async def test_nested_percent_encoding_is_searched_in_linear_time() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b:
            keys = Keys(endpoint._registry, endpoint.dialects.values())
            nested = "%" + "25" * 100_000
            head = Head("POST", CHAT, "", {"x-api-key": a.api_key, "authorization": nested + "zz"})
            assert keys.rollout(head, None) is a._core
            shown = b.api_key.replace("sk-", f"sk{nested}2d")
            with pytest.raises(Refusal, match="keys of two rollouts"):
                keys.rollout(Head("POST", CHAT, "", {"x-api-key": a.api_key, "authorization": shown}), None)


async def test_an_ambiguous_request_is_refused_before_its_body_is_sent() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as b, connected(endpoint.port) as stream:
            head = (
                f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\nX-Api-Key: {a.api_key}\r\n"
                f"Authorization: Token {b.api_key}\r\n\r\n"
            )
            await stream.send_all(head.encode())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 401")


FORMS = {
    "Basic": "",
    "percent-encoded": "Bearer {}",
    "alone": "{}",
    "Bearer": "Bearer {}",
    "bearer": "bearer  {}",
    "with a tab": "Bearer\t{}",
    "Token": "Token {}",
    "Key": "Key {}",
    "quoted": 'token="{}"',
    "with more text": "{}x",
}
HEADERS = ["authorization", "x-api-key", "x-goog-api-key", "api-key", "x-toy-key"]
PLACES = [*HEADERS, "sec-websocket-protocol", "query", "authority"]
READ = {
    *((place, "alone") for place in HEADERS),
    ("authorization", "Bearer"),
    ("authorization", "bearer"),
    ("x-toy-key", "Key"),
}
"""The forms in which a key is read. `with more text` is another key."""


async def test_every_pair_of_keys_in_all_places_and_forms_is_served_for_the_only_rollout_or_refused() -> None:
    served = refused = 0
    async with serve_endpoint(dialects=[OWN]) as endpoint, endpoint.open_rollout(echo) as a:
        async with endpoint.open_rollout(echo) as ended:
            pass
        async with endpoint.open_rollout(echo) as b:
            keys = Keys(endpoint._registry, endpoint.dialects.values())
            owners = {a.api_key: "a", b.api_key: "b", ended.api_key: "ended", "sk-of-a-provider": None}
            shown = [*itertools.product(PLACES, FORMS, owners)]
            for first, second in itertools.combinations_with_replacement(shown, 2):
                headers, query, authority, named, read = [], "", "", [], False
                for place, form, key in (first, second):
                    basic = f"Basic {b64encode(f'user:{key}'.encode()).decode()}"
                    text = FORMS[form].format(key) or basic
                    if form == "percent-encoded":
                        text = text.replace("-", "%2d")
                    if place == "query":
                        query += f"&{text}"
                    elif place == "authority":
                        authority += f" {text}"
                    else:
                        headers.append((place.encode(), text.encode()))
                    owner = owners[key] and ("another" if form == "with more text" else owners[key])
                    if form == "Basic" and place in ("query", "authority"):
                        owner = None  # credentials are not sent in a URL
                    named += [owner] if owner else []
                    read = read or (owner is not None and (place, form) in READ)
                twice = first[0] == second[0] and first[0] in HEADERS
                head = Head("POST", CHAT, query, text_headers(headers, keys.places), authority)
                rollout = (
                    {"a": a, "b": b}.get(named[0]) if len({*named}) == 1 and read and not twice else None
                )
                try:
                    got = keys.rollout(head, None)
                except Refusal as refusal:
                    assert rollout is None, (first, second)
                    assert refusal.status in (400, 401)
                    assert keys.holder(head) is None, (first, second)
                    refused += 1
                else:
                    assert rollout is not None, (first, second)
                    assert got is rollout._core, (first, second)
                    assert keys.holder(head) is got
                    served += 1
    assert served > 1_000
    assert refused > 10_000
