"""What somebody gets to see who gives the wrong thing: an error of that very call, which names it and what it takes."""

import asyncio
import builtins
import io
import pathlib
import re
import sys
import traceback
from collections.abc import Callable
from math import inf, nan
from types import SimpleNamespace
from typing import Any, final

import httpx2
import pytest
import trio
import trio.testing

import triocept
from tests.asking import ask, echo
from triocept import (
    AgentFailed,
    Endpoint,
    EndpointLimits,
    Exchange,
    Limits,
    Message,
    Refusal,
    Request,
    Response,
    Text,
    dialects,
    handlers,
    open_upstream,
    serve_endpoint,
    serve_pool,
    traces,
    tunnels,
    types,
)
from triocept.errors import Unanswered
from triocept.fleets import open_fleet
from triocept.handlers import fallback, limits, route, script
from triocept.tunnels import CommandTunnel, PrimeTunnel, TunnelHealth
from triocept.types import Price, Sampling

ANY: Any = None


class Names(dict[str, Any]):
    """What a row of a table may name: what this module and the public ones have."""

    def __missing__(self, name: str) -> Any:
        own = (triocept, dialects, handlers, script, traces, tunnels, types)
        modules = (sys.modules[__name__], builtins, io, pathlib, *own)
        return next(found for module in modules if (found := getattr(module, name, self)) is not self)


def given(expression: str, **names: Any) -> Any:
    """Evaluate an expression of a table."""
    return eval(expression, {}, Names(names))


def rows(table: str) -> list[Any]:
    """An expression, the class of the error, and how its text begins: a row of a table for each."""
    found = []
    for row in table.strip().splitlines():
        expression, _, error = row.partition(" -> ")
        kind, _, text = error.partition(":")
        found.append(pytest.param(expression, given(kind), text.strip(), id=expression[:50]))
    return found


class Synchronous:
    """A recorder that cannot be awaited."""

    def record(self, turn: Any) -> None: ...
    def seal(self, trace: Any) -> None: ...
    def aclose(self) -> None: ...


class Halved:
    """A recorder with a method too few."""

    async def record(self, turn: Any) -> None: ...
    async def seal(self, trace: Any) -> None: ...


def constant(exchange: Exchange) -> Any:
    return "hi"


def joined(exchange: Exchange) -> Any:
    return f"you said {exchange.request}"


async def tool(text: str) -> str:
    """A tool."""
    return text


OF_ROLLOUT = r"""
concurrency=0 -> ValueError: concurrency must be 1 or more, not 0
concurrency=True -> TypeError: concurrency must be a whole number, not bool: True
concurrency="4" -> TypeError: concurrency must be a whole number, not str: '4'
concurrency=1.5 -> TypeError: concurrency must be a whole number, not float: 1.5
on_hangup="ignore" -> ValueError: on_hangup must be 'cancel' or 'finish', not 'ignore'
on_retry="no" -> ValueError: on_retry must be 'join' or 'new', not 'no'
on_fault="no" -> ValueError: on_fault must be 'cancel' or 'stay', not 'no'
model=5 -> TypeError: model must be a str, not int: 5
id=5 -> TypeError: id must be a str, not int: 5
limits=5 -> TypeError: limits must be a Limits, not int: 5; write Limits\(turns=5\)
limits={"turns": 5} -> TypeError: limits must be a Limits, not dict
limits=EndpointLimits() -> TypeError: limits must be a Limits, not EndpointLimits.*serve_endpoint
recorder="x.jsonl" -> TypeError: recorder .* not str.*JSONLRecorder\('x.jsonl'\)
recorder=Path("x.jsonl") -> TypeError: recorder .*JSONLRecorder\('x.jsonl'\)
recorder=JSONLRecorder -> TypeError: recorder .*JSONLRecorder is a class: pass an instance of it
recorder=Synchronous() -> TypeError: recorder .*`record` of Synchronous is not async
recorder=Halved() -> TypeError: recorder .*Halved has no method `aclose`
tools=echo -> TypeError: tools must be a list of functions.*tools=\[echo\]
tools="echo" -> TypeError: tools must be a list of functions, not str: 'echo'
tools={"echo": echo} -> TypeError: tools must be a list of functions, not dict:
tools=HostTool.of(tool) -> TypeError: tools must be a list of functions, not HostTool:
max_turns=50 -> TypeError: .* unexpected keyword argument 'max_turns'; write limits=Limits\(turns=…\)$
tokens=9 -> TypeError: .* unexpected keyword argument 'tokens'; write limits=Limits\(total_tokens=…\)$
user=5 -> TypeError: user must be `async def user.messages, rollout.`, not int: 5
stop="done" -> TypeError: stop must be `async def stop.messages, rollout.`, not str: 'done'
"""


@pytest.mark.parametrize(("arguments", "kind", "text"), rows(OF_ROLLOUT))
async def test_what_a_rollout_is_given_is_looked_at_when_it_is_opened(
    arguments: str, kind: type[Exception], text: str
) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(kind, match=f"^{text}"):
            async with endpoint.open_rollout(echo, **given(f"dict({arguments})")):
                pytest.fail("it began")
        async with endpoint.open_rollout(echo) as rollout:
            with pytest.raises(kind, match=f"^{text}"):
                async with rollout.open_child(echo, **given(f"dict({arguments})")):
                    pytest.fail("it began")


OF_ENDPOINT = r"""
advertise=5 -> TypeError: advertise must be a str, not int: 5
tunnel_health=5 -> TypeError: tunnel_health must be a TunnelHealth, not int: 5; write TunnelHealth\(interval=
limits=Limits(turns=3) -> TypeError: limits must be an EndpointLimits, not Limits.*open_rollout
limits=5 -> TypeError: limits must be an EndpointLimits, not int: 5
max_body="1MB" -> TypeError: max_body must be a whole number, not str: '1MB'
max_body=-1 -> ValueError: max_body must be 0 or more, not -1
grace=inf -> ValueError: grace must be finite, not float: inf
grace="1" -> TypeError: grace must be a number, not str: '1'
port="8080" -> TypeError: port must be a whole number, not str: '8080'
on_lost_url="wait" -> ValueError: on_lost_url must be 'raise' or 'move', not 'wait'
port=70_000 -> ValueError: a port must be a number from 0 to 65535
host=5 -> TypeError: host must be a str, not int: 5
websocket=None -> TypeError: websocket must be a bool, not None
prot=5 -> TypeError: serve_endpoint\(\) got an unexpected keyword argument 'prot'; did you mean port\?
http2=True -> TypeError: serve_endpoint\(\) got .* 'http2'; it was removed, because .* reverse proxy
fast=True -> TypeError: serve_endpoint\(\) got an unexpected keyword argument 'fast'; it was removed, because
host="" -> ValueError: host must not be empty: use '127.0.0.1', or '0.0.0.0' for every interface
recorder="x.jsonl" -> TypeError: recorder .*JSONLRecorder\('x.jsonl'\)
tls="a.pem" -> TypeError: tls must be an ssl.SSLContext or two paths, \(certificate, key\), not str: 'a.pem'
tls=("/no/a.pem", "/no/b.pem") -> FileNotFoundError: .*'/no/a.pem'
tls=(__file__, __file__) -> ValueError: tls: .*test_wrong_arguments.py
"""


@pytest.mark.parametrize(("arguments", "kind", "text"), rows(OF_ENDPOINT))
async def test_what_an_endpoint_is_given_is_looked_at_before_it_begins(
    arguments: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=f"(?s)^{text}" if kind is not FileNotFoundError else text):
        async with serve_endpoint(**given(f"dict({arguments})")):
            pytest.fail("it began")


def _endless() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


OF_POOL = r"""
on_lost_endpoint="wait" -> ValueError: on_lost_endpoint must be 'raise' or 'move', not 'wait'
shrink_after="5" -> TypeError: shrink_after must be a number, not str: '5'
per_endpoint=0 -> ValueError: per_endpoint must be 1 or more, not 0
max_endpoints=0 -> ValueError: max_endpoints must be 1 or more, not 0
open_endpoint=[] -> ValueError: open_endpoint is an empty list, but a pool needs at least one endpoint
per_endpiont=2 -> TypeError: serve_pool\(\) got an unexpected .*'per_endpiont'; did you mean per_endpoint\?
open_endpoint=[serve_endpoint], max_endpoints=2 -> ValueError: max_endpoints needs a pool that grows
"""


@pytest.mark.parametrize(("arguments", "kind", "text"), rows(OF_POOL))
async def test_what_a_pool_is_given_is_looked_at_before_it_begins(
    arguments: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        async with serve_pool(**given(f"dict({arguments})")):
            pytest.fail("it began")


PRICE = Price(input=1, output=2)
AT_ONCE = r"""
Limits(turns="5") -> TypeError: Limits.turns must be a whole number, not str: '5'
Limits(turns=-1) -> ValueError: Limits.turns must be 0 or more, not -1
Limits(seconds="5") -> TypeError: Limits.seconds must be a number, not str: '5'
Limits(seconds=True) -> TypeError: Limits.seconds must be a number, not bool: True
Limits(cost=float("nan"), prices={"*": PRICE}) -> ValueError: Limits.cost must be 0 or more, not nan
Limits(cost=1, prices={"*": (1, 2)}) -> TypeError: .* must be a Price, not tuple: .*; write Price\(input=…, output=…\)
Limits(cost=1, prices={"*": 1.5}) -> TypeError: Limits.prices\['\*'\] must be a Price, not float
Limits(cost=1, prices=PRICE) -> TypeError: Limits.prices must be a mapping of models to prices
limits(echo, prices={"*": 1.5}) -> TypeError: Limits.prices\['\*'\]
limits(5) -> TypeError: a handler must be .*5 cannot be called
limits(echo, trun=5) -> TypeError: limits\(\) got an unexpected keyword argument 'trun'; did you mean turns\?
Price(input="1", output=2) -> TypeError: Price.input must be a number, not str: '1'
Price(input=-1, output=2) -> ValueError: Price.input must be 0 or more, not -1
EndpointLimits(connections="9") -> TypeError: EndpointLimits.connections must be a whole number
EndpointLimits(head_seconds=-1) -> ValueError: EndpointLimits.head_seconds must be 0 or more
EndpointLimits(head_bytes=None) -> TypeError: EndpointLimits.head_bytes must be a whole number, not None
ScriptedModel([inf]) -> TypeError: replies\[0\], a pause, must be finite, not float: inf
Limits(seconds=inf) -> ValueError: Limits.seconds must be finite, not float: inf; None sets no limit
Refusal("too many", 429) -> TypeError: a refusal's status comes first, and then its message: pass 429, 'too many'$
approve(echo) -> TypeError: .* missing .*'policy'; write approve\(handler, policy\)$
open_upstream("http://x") -> TypeError: .* missing .*'dialect'; write open_upstream\(base_url, dialect=…\)$
open_upstream("http://x", "gemini") -> TypeError: .* 2 were given; write open_upstream\(base_url, dialect=…\)$
approve({}, echo) -> TypeError: approve takes the handler first, and then the policy: approve\(handler, policy\)$
Message("user", ())["content"] -> TypeError: a Message has attributes, and no keys or items: write \.content in
ToolCall("bash").args -> AttributeError: 'ToolCall' object has no attribute 'args'; did you mean parsed\(\), the
Message("user", ())[0] -> TypeError: a Message has attributes, and no keys or items$
traces.read_traces(["x"]) -> TypeError: path must be the path of one file, not list: \['x'\]; call read_traces once
agents.agent("claude") -> ValueError: unknown agent 'claude'; .*; did you mean claude_code\?$
dialects.dialect("claude") -> ValueError: there is no dialect 'claude'; did you mean anthropic_messages\?$
dialects.dialect("zzz") -> ValueError: there is no dialect 'zzz'; the dialects are anthropic_messages, gemini
Refusal("500", "no") -> TypeError: a refusal's status must be a whole number, not str: '500'
Refusal(429, "no", headers=["a"]) -> TypeError: a refusal's headers must be a mapping of names to values, not list
Refusal(429, "no", headers={1: "a"}) -> TypeError: the name of a refusal's header must be a str, not int: 1
TunnelHealth(verify="no") -> TypeError: TunnelHealth.verify must be a bool or an ssl.SSLContext, not
JSONLRecorder("x", fsync=1) -> TypeError: fsync must be a bool, not int: 1
Refusal(429, None) -> TypeError: a refusal's message must be a str, not None
Refusal(429, "no", should_retry="no") -> TypeError: a refusal's should_retry must be a bool, not str: 'no'
Refusal(200, "no") -> ValueError: the status of a refusal must be 400 to 599, not 200
fallback(echo) -> TypeError: fallback takes a list of handlers, not function: .*\[echo\]
route([echo]) -> TypeError: route takes a mapping of models to handlers, such as \{\"\*\": handler\}, or a function
route({}) -> ValueError: route got an empty mapping, but needs at least one handler
FixedURL(3) -> TypeError: FixedURL must be a str, not int: 3
CommandTunnel(3) -> TypeError: argv must be a list, \["cloudflared", "tunnel", …\], not int: 3
SSHTunnel(3) -> TypeError: SSHTunnel: a destination must be user@host, a str, not int: 3
SSHTunnel("host", port="22") -> TypeError: SSHTunnel: a port must be a whole number, not str
ToolCall.of("bash", {"command": "ls"}) -> TypeError: .*: write ToolCall.of\('bash', \*\*\{…\}\)
ToolCall.of("b", command=object()) -> TypeError: ToolCall.of: `command` cannot be written as JSON: .*object
ToolCall.of("b", cut="\ud83d", x=object()) -> TypeError: ToolCall.of: `x` cannot be written as JSON: .*object
ToolCall.of("b", inner=_endless()) -> TypeError: ToolCall.of: `inner` cannot be written as JSON: list:
ToolCall.of(5) -> TypeError: ToolCall.of: the name must be a str, not int: 5
"""


@pytest.mark.parametrize(("call", "kind", "text"), rows(AT_ONCE))
def test_a_value_says_at_once_what_is_wrong_with_it(call: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        given(call)


NOT_ASYNC: dict[str, tuple[Any, str]] = {
    "a constant": (lambda messages, rollout: "x", "`.*<lambda>` is not async"),
    "a class": (Synchronous, "Synchronous is a class: pass an instance of it"),
    "too few arguments": (echo, "`echo` does not take two arguments"),
}


@pytest.mark.parametrize("name", ["user", "stop"])
@pytest.mark.parametrize(("given", "text"), NOT_ASYNC.values(), ids=NOT_ASYNC)
async def test_a_user_or_a_stop_condition_that_cannot_be_awaited_is_told_where_it_is_given(
    name: str, given: Any, text: str
) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(
            TypeError, match=rf"^{name} must be `async def {name}\(messages, rollout\)`; {text}$"
        ):
            async with endpoint.open_rollout(echo, **{name: given}):
                pytest.fail("it began")


SAID: list[tuple[str, Any, str]] = [
    (
        "user",
        lambda messages, rollout: len(messages),
        "user must be .*<lambda>` is not async: it returned int: 0",
    ),
    (
        "stop",
        lambda messages, rollout: str(messages),
        r"stop must be .*<lambda>` is not async: it returned str: '\(\)'",
    ),
]


@pytest.mark.parametrize(("name", "function", "text"), SAID, ids=["user", "stop"])
async def test_what_gives_nothing_to_await_is_named_at_its_first_call(
    name: str, function: Any, text: str
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, **{name: function}) as rollout:
        with pytest.raises(Refusal, match=text):
            await getattr(rollout._core.services, f"ask_{name}")(rollout._core, ())


async def test_what_a_user_says_that_is_none_is_named() -> None:
    async def user(messages: Any, rollout: Any) -> Any:
        return 5

    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, user=user) as rollout:
        with pytest.raises(
            Refusal,
            match="the function user= must return a str, a Message, a list of these, or None, not int: 5",
        ):
            await rollout._core.services.ask_user(rollout._core, ())


NUMBERS: dict[str, Callable[[Any], Any]] = {
    **{
        f"Limits.{name}": lambda value, name=name: Limits(**{name: value}, prices={"*": PRICE})
        for name in ("cost", "seconds")
    },
    **{
        f"Price.{name}": lambda value, name=name: Price(**{"input": 1, "output": 1, name: value})
        for name in ("input", "output", "cached_input", "cache_write")
    },
    **{
        f"EndpointLimits.{name}": lambda value, name=name: EndpointLimits(**{name: value})
        for name in EndpointLimits.__struct_fields__
        if name.endswith("_seconds")
    },
    **{
        f"TunnelHealth.{name}": lambda value, name=name: TunnelHealth(**{name: value})
        for name in ("start_timeout", "interval", "timeout", "back_off", "max_back_off", "patience")
    },
    "retry_after": lambda value: Refusal(429, "no", retry_after=value),
    "timeout": lambda value: CommandTunnel(["x"], timeout=value),
}


def test_no_number_is_infinite_or_nan_where_nothing_says_what_that_means() -> None:
    for place, makes in NUMBERS.items():
        for value in (nan, inf, -inf, -1, 10**400):
            with pytest.raises(ValueError, match=f"^{re.escape(place)} must be ") as caught:
                makes(value)
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 200


OF_UPSTREAM = r"""
sampling={"temperature": 0.5} -> TypeError: sampling must be a Sampling, not dict: .*Sampling\(temperature=
model=5 -> TypeError: model must be a str, not int: 5
api_key=5 -> TypeError: api_key must be a str, not int$
api_key="k\u00e9y" -> ValueError: api_key must be printable ASCII, but its character 2 is '\u00e9': copy the key again
tokens="vllm" -> ValueError: tokens= needs model=
retries="2" -> TypeError: retries must be a whole number, not str: '2'
concurrency="2" -> TypeError: concurrency must be a whole number, not str: '2'
read_timeout="2" -> TypeError: read_timeout must be a number, not str: '2'
read_timeout=nan -> ValueError: read_timeout must be 0 or more, not nan
connect_timeout=inf -> ValueError: connect_timeout must be finite, not float: inf; pass None to wait without a limit
sampling=Sampling(temperature=inf) -> ValueError: Sampling.temperature must be finite, not float: inf
sampling=Sampling(presence_penalty=nan) -> ValueError: Sampling.presence_penalty must be .*, not nan
extra_headers=["a"] -> TypeError: extra_headers must be a mapping, not list
extra_headers={"a": 1} -> TypeError: extra_headers\['a'\] must be a str, not int$
extra_headers={1: "a"} -> TypeError: extra_headers: a name must be a str, not int: 1
extra_headers={"a b": "c"} -> ValueError: extra_headers: 'a b' is not a header name
extra_headers={"a": "secret\n"} -> ValueError: extra_headers\['a'\] must be a single line of Latin-1 text$
extra_headers={"a": "ключ"} -> ValueError: extra_headers\['a'\] must be a single line of Latin-1 text
extra_body={"x": object()} -> TypeError: extra_body: `x` cannot be written as JSON: object: <object
extra_body={1: 2} -> TypeError: extra_body: a name must be a str, not int: 1
retries=None -> TypeError: retries must be a whole number, not None
retries=-1 -> ValueError: retries must be 0 or more, not -1
concurrency=0 -> ValueError: concurrency must be 1 or more, not 0
max_output_tokens=0 -> ValueError: max_output_tokens must be 1 or more, not 0
hold_calls="no" -> TypeError: hold_calls must be a bool, not str: 'no'
modle="m" -> TypeError: open_upstream\(\) got an unexpected keyword argument 'modle'; did you mean model\?
tls=False -> TypeError: tls must be an ssl.SSLContext, not bool: False; .*create_default_context\(cafile=
tls=True -> TypeError: tls must be an ssl.SSLContext, not bool: True; pass None to trust the system's certificates
sampling=Sampling(temperature="hot") -> TypeError: Sampling.temperature: expected `float.*`str`
api_key="" -> ValueError: api_key is empty: pass None for a provider that needs no key
api_key=" \n" -> ValueError: api_key is empty
model="" -> ValueError: model is empty: pass None to request the agent's model
dialect=None -> TypeError: dialect must be a name or a triocept.dialects.Dialect, not None
base_url=None -> TypeError: base_url must be a str, not None
base_url="http://127.0.0.1:port/v1?key=s" -> ValueError: an upstream's base_url .*:port/v1': Invalid port
base_url="http://127.0.0.1:70000/v1" -> ValueError: an upstream's base_url must be .*:70000/v1':
base_url="http:// x" -> ValueError: an upstream's base_url has a space in its host
"""


@pytest.mark.parametrize(("arguments", "kind", "text"), rows(OF_UPSTREAM))
async def test_what_an_upstream_is_given_is_looked_at_before_it_begins(
    arguments: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        async with open_upstream(
            **{"base_url": "http://127.0.0.1:9/v1", "dialect": "openai_chat", **given(f"dict({arguments})")}
        ):
            pytest.fail("it began")


IN_ROLLOUT = r"""
r.run_agent(["true"], output="print") -> ValueError: output must be one of capture, echo, inherit, terminal, not 'print'
r.run_agent(["true"], terminate_grace=inf) -> ValueError: terminate_grace must be finite, not float: inf
r.run_agent(["true"], env=["A=1"]) -> TypeError: env must be a mapping of names to values, not list:
r.run_agent(["true"], env={3: "x"}) -> TypeError: env: a name must be a str, not int: 3
r.run_agent(["true"], env={3: None}) -> TypeError: env: a name must be a str, not int: 3
r.run_agent(["/no"], stdout_file=object()) -> TypeError: stdout_file must be a path or a file .*, not object:
r.run_agent(["/no"], stderr_file=StringIO()) -> TypeError: stderr_file must be a path or a file .*, not StringIO:
r.base_url(DIALECTS["gemini"]) -> TypeError: a dialect must be given by its name, 'gemini', not Dialect:
r.config(None) -> TypeError: a dialect must be given by its name, a str, not None
r.ask(Message("user", (Text("hi"),))) -> TypeError: ask takes .*, not Message: .*; .*single message, write ask\(\[
r.stop(None) -> TypeError: the reason must be a str, not None
r.service_url("mpc") -> ValueError: unknown service 'mpc'; the services are mcp, tools, user,
r.ask([{"role": "user"}]) -> TypeError: ask: messages\[0\] must be a Message, not dict:
r.ask(5) -> TypeError: ask takes a text, a Request or Messages, not int: 5
r.serve(echo, concurrency=0) -> ValueError: concurrency must be 1 or more, not 0
"""


@pytest.mark.parametrize(("call", "kind", "text"), rows(IN_ROLLOUT))
async def test_what_is_asked_of_a_rollout_is_looked_at(call: str, kind: type[Exception], text: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(kind, match=f"^{text}"):
            await given(call, r=rollout)


async def test_no_tools_are_none() -> None:
    async with serve_pool() as pool, pool.open_rollout(echo, tools=None) as rollout:
        assert rollout.tools == ()
        async with rollout.open_child(tools=None) as child:
            assert child.tools == ()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(tools=None) as rollout:
        assert rollout.tools == ()


async def test_an_answer_that_is_an_error_is_to_be_raised() -> None:
    async def answer(exchange: Exchange) -> None:
        with pytest.raises(
            TypeError, match=r"not Refusal: .*; to answer the call with this exception, raise it"
        ):
            await exchange.respond(ANY or Refusal(429, "later"))
        await exchange.refuse(429, "later")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        assert (await ask(rollout)).status_code == 429


async def test_a_context_that_is_entered_wrongly_says_what_it_is() -> None:
    text = r"^serve_endpoint\(…\) is an async context manager: write `async with serve_endpoint\(…\) as endpoint`; "
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        child: Any = rollout.open_child()
        with pytest.raises(
            TypeError, match=r"open_child\(…\) is .*: write `async with open_child\(…\) as child`$"
        ):
            await child
    opened: Any = serve_endpoint()
    with pytest.raises(TypeError, match=text), opened:
        pytest.fail("it began")
    with pytest.raises(TypeError, match=text):
        await opened
    with pytest.raises(TypeError, match=text):
        async for _ in opened:
            pytest.fail("it began")
    upstream: Any = open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat")
    with pytest.raises(TypeError, match=r"`async with open_upstream\(…\) as upstream`; "), upstream:
        pytest.fail("it began")


async def test_an_attribute_of_a_context_that_is_not_entered_yet_is_an_error_that_shows_the_async_with() -> (
    None
):
    opened: list[tuple[Any, str, str]] = [
        (serve_endpoint(), "port", "serve_endpoint"),
        (open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat"), "fetch", "open_upstream"),
        (open_fleet(), "map", "open_fleet"),
    ]
    async with serve_endpoint() as endpoint:
        opened.append((endpoint.open_rollout(echo), "trace", "open_rollout"))
        for context, attribute, name in opened:
            text = (
                rf"^cannot read \.{attribute} yet: {name}\(…\) is .*: write `async with {name}\(…\) as \w+`"
            )
            with pytest.raises(AttributeError, match=text):
                getattr(context, attribute)
            assert not hasattr(context, "__len__")


async def test_what_a_number_may_be_is_no_more_than_its_argument_says() -> None:
    """Below 0, infinite, or 0: each where that means something."""
    sampling = Sampling(presence_penalty=-1.5, frequency_penalty=-2)
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat", sampling=sampling):
        pass
    async with serve_pool(shrink_after=inf):
        pass
    with pytest.raises(ValueError, match="starts_per_minute must be more than 0, not 0"):
        PrimeTunnel(starts_per_minute=0)


async def test_what_an_upstream_is_asked_is_a_request() -> None:
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat") as upstream:
        for ask_it in (upstream.fetch, upstream.count_input_tokens):
            with pytest.raises(TypeError, match="takes a Request, not str: 'hello'"):
                await ask_it(ANY or "hello")
        with pytest.raises(TypeError, match="open_response takes a Request, not str: 'hello'"):
            async with upstream.open_response(ANY or "hello"):
                pytest.fail("it began")


@pytest.mark.parametrize("handler", [constant, joined])
async def test_a_handler_that_is_not_async_is_told_so_when_it_is_given(handler: Any) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match=rf"`{handler.__name__}` is not async"):
            endpoint.open_rollout(handler)


async def test_a_handler_that_gives_nothing_to_await_is_told_so_at_its_first_call() -> None:
    def answer(exchange: Exchange) -> Any:
        return Response.of("hi")

    made: dict[str, Callable[[], Any]] = {
        "alone": lambda: answer,
        "routed": lambda: route({"*": answer}),
        "chosen": lambda: route(lambda exchange: answer),
        "first": lambda: fallback([answer, echo]),
        "last": lambda: fallback([answer]),
        "limited": lambda: limits(answer, turns=3),
    }
    async with serve_endpoint() as endpoint:
        for make in made.values():
            with pytest.raises(TypeError, match=r"`.*answer` is not async: it returned a Response") as caught:
                async with endpoint.open_rollout(make()) as rollout:
                    await ask(rollout)
            assert "can't be used in 'await'" not in "".join(traceback.format_exception(caught.value))


async def test_a_function_that_hands_on_what_another_gives_is_a_handler() -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(lambda exchange: echo(exchange)) as rollout:
            assert (await ask(rollout)).status_code == 200


async def test_a_context_that_was_not_entered_is_no_handler() -> None:
    upstream: Any = open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat")
    async with serve_endpoint() as endpoint:
        with pytest.raises(
            TypeError,
            match=r"; open_upstream\(…\) is a context that was not entered: write `async with open_upstream\(…\) as up",
        ):
            endpoint.open_rollout(upstream)


async def test_notes_say_which_of_them_is_not_json() -> None:
    async def noting(exchange: Exchange) -> None:
        with pytest.raises(TypeError, match=r"^annotate: `x` cannot be written as JSON: .*object"):
            exchange.annotate(fine=1, cut="\ud83d", x=ANY or object())
        await exchange.respond("ok")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(noting) as rollout:
        await ask(rollout)
    assert rollout.trace[0].notes == {}


async def test_an_endpoint_that_has_ended_opens_no_rollout() -> None:
    endpoint: Endpoint
    async with serve_endpoint() as endpoint:
        pass
    with pytest.raises(trio.ClosedResourceError, match="this endpoint has ended"):
        async with endpoint.open_rollout(echo):
            pytest.fail("it began")


async def test_a_pool_that_has_ended_opens_no_rollout() -> None:
    async with serve_pool() as pool:
        pass
    with pytest.raises(trio.ClosedResourceError, match="this pool has ended"):
        async with pool.open_rollout(echo):
            pytest.fail("it began")


async def test_who_waits_for_a_place_in_a_pool_hears_of_its_end() -> None:
    heard: list[str] = []

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError) as caught:
            async with pool.open_rollout(echo):
                pytest.fail("it began")
        heard.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        async with serve_pool([serve_endpoint], per_endpoint=1) as pool, pool.open_rollout(echo):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
    assert re.match("this pool has ended", heard[0])


async def test_an_upstream_that_has_ended_says_so() -> None:
    request = Request(dialect="openai_chat", model="m", messages=(Message("user", (Text("hi"),)),))
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat") as upstream:
        pass
    with pytest.raises(trio.ClosedResourceError, match=r"Upstream http://127.0.0.1:9/v1.* is closed"):
        await upstream.fetch(request)
    with pytest.raises(trio.ClosedResourceError, match="is closed"):
        await upstream.count_input_tokens(request)
    async with serve_endpoint() as endpoint:
        with pytest.raises(trio.ClosedResourceError, match="is closed") as caught:
            async with endpoint.open_rollout(upstream) as rollout:
                await ask(rollout)
    assert "httpx2" not in "".join(traceback.format_tb(caught.value.__traceback__))
    assert caught.value.__cause__ is None


async def test_a_loop_over_a_rollout_that_has_a_handler_is_told_that_it_gets_nothing() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, id="r") as rollout:
        with pytest.raises(RuntimeError, match=r"^rollout r has a handler, which receives every exchange"):
            async for _ in rollout:
                pytest.fail("it got one")
        async with rollout.open_agent(["true"]) as agent:
            with pytest.raises(RuntimeError, match=r"^rollout r has a handler"):
                async for _ in agent:
                    pytest.fail("it got one")


async def test_a_loop_may_follow_upon_a_service_that_was_ended() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rollout.serve, echo)
            await ask(rollout)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, rollout)
            async for exchange in rollout:
                await exchange.respond("by hand")
                break
        assert len(rollout.trace) == 2


async def lacks_await() -> str:
    return "x"


@pytest.mark.parametrize(("answer", "hint"), [
    ({"role": "assistant"}, "; for a JSON body of your own, use respond_raw"),
    (None, r"not None; does a `return` lack its value\?"),
    (lacks_await, "; await it first"),
])  # fmt: skip
async def test_what_is_no_answer_is_told_what_to_write(answer: Any, hint: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(answer() if callable(answer) else answer)

    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match=f"^respond takes .*{hint}"):
            async with endpoint.open_rollout(handler) as rollout:
                await ask(rollout)


@pytest.mark.parametrize(("upstream", "hint"), [
    ("http://127.0.0.1:9/v1", r"is a str: for a real model, use `async with open_upstream\(url, dialect=…\) as model`"),
    (lambda: open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat"), "was not entered: write `async with"),
])  # fmt: skip
async def test_what_a_call_cannot_be_forwarded_to_is_told_what_to_write(upstream: Any, hint: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.forward(upstream() if callable(upstream) else upstream)

    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match=hint):
            async with endpoint.open_rollout(handler) as rollout:
                await ask(rollout)


async def test_a_base_url_of_a_misnamed_dialect_is_answered_by_the_name_of_one() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(ValueError, match=r"unknown dialect 'openai'; did you mean openai_chat\?$"):
            rollout.base_url("openai")


async def test_a_name_of_other_packages_is_answered_by_the_name_here() -> None:
    request = Request(dialect="openai_chat", model="m", messages=())
    with pytest.raises(
        AttributeError, match=r"^'Request' object has no attribute 'prompt'; did you mean user_text"
    ):
        request.prompt  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(request, "text")
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(
            AttributeError, match=r"^'Rollout' object has no attribute 'url'; did you mean base_url\("
        ):
            rollout.url  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(TypeError, match=r"'timeout'; .*open_rollout\(limits=Limits\(seconds=…\)\)"):
            await rollout.run_agent(["true"], timeout=3)  # type: ignore[call-arg]
        with pytest.raises(AttributeError, match="did you mean returncode"):
            (await rollout.run_agent(["true"])).exit_code  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError, match=r"'timeout'; pass timeout= to fleet\.map$"):
        open_fleet(echo, timeout=3)


class Unknown:
    """A type that JSON has no form for."""


def by_kind(what: str, kind: Unknown) -> None: ...


OPENED = r"""
HostTool.of("search") -> TypeError: a tool must be a function, not str: 'search'
HostTool.of({"type": "function"}) -> TypeError: a tool must be a function, not dict
HostTool.of(None) -> TypeError: a tool must be a function, not None
HostTool.of(by_kind) -> TypeError: tool 'by_kind': the parameter 'kind' is of type Unknown, which has no JSON Schema
HostTool.of(by_kind, description=5) -> TypeError: description must be a str, not int: 5
RecorderGroup(JSONLRecorder("x")) -> TypeError: RecorderGroup takes a list of recorders, not JSONLRecorder
ScriptedModel([ToolCall]) -> NotAReply: replies\[0\] is the class ToolCall, not an instance
Price(1, 2) -> TypeError: Price accepts only keyword arguments \(input, output, cached_input, cache_write\): Extra
Limits(max_turns=5) -> TypeError: Limits accepts only keyword arguments \(turns, .*\): .*'max_turns'; did you mean turns
Limits(timeout=5) -> TypeError: Limits accepts only keyword arguments .*'timeout'; did you mean seconds\?$
Limits(zzz=5) -> TypeError: Limits accepts only keyword arguments .*: Unexpected keyword argument 'zzz'$
EndpointLimits(5) -> TypeError: EndpointLimits accepts only keyword arguments \(connections,
TunnelHealth(5) -> TypeError: TunnelHealth accepts only keyword arguments
Usage(1, 2) -> TypeError: Usage accepts only keyword arguments \(input_tokens, output_tokens, .*\): Extra
Tool(*["x"]) -> TypeError: Tool accepts only keyword arguments \(name, description, .*\): Extra
Sampling(temprature=1) -> TypeError: Sampling accepts only keyword arguments .*: Unexpected .*'temprature'
"""


@pytest.mark.parametrize(("call", "kind", "text"), rows(OPENED))
def test_what_is_made_wrongly_is_named(call: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=f"^{text}") as caught:
        given(call)
    assert "schema_hook" not in str(caught.value)


POOLS: dict[str, tuple[Any, str]] = {
    "one that was called": (
        lambda: serve_endpoint(),
        "not the result of a call of this function: write serve_pool.partial",
    ),
    "one in a list": (lambda: [serve_endpoint()], "not the result of a call of this function"),
    "a number": (
        lambda: 4,
        "not int: 4: write serve_pool.*; to limit the rollouts of each endpoint, pass per_endpoint=4",
    ),
    "a text": (lambda: "x", "not str: 'x'"),
}


@pytest.mark.parametrize(("given", "text"), POOLS.values(), ids=POOLS)
async def test_what_opens_no_endpoint_is_told_before_a_pool_begins(
    given: Callable[[], Any], text: str
) -> None:
    with pytest.raises(
        TypeError, match=f"^open_endpoint must be a function that opens an endpoint[,;] {text}"
    ):
        async with serve_pool(given()):
            pytest.fail("it began")


@final
class Bundle:
    """What starts an agent, as `triocept.agents` gives it."""

    argv = ("true",)


RUN = r"""
r.run_agent("true x") -> TypeError: argv must be a list
r.run_agent(Bundle()) -> TypeError: argv must be a list.*run_agent\(launch.argv, env=launch.env\)
r.run_agent(5) -> TypeError: argv must be a list.*, not int: 5
r.run_agent(["true"], env={"A": 1}) -> TypeError: the values of env must be str
r.run_agent(["true"], cwd=5) -> TypeError: cwd must be a str or a path, not int: 5
r.run_agent(["true"], input=5) -> TypeError: input must be bytes or str
r.run_agent(["true"], output_limit=-1) -> ValueError: output_limit must be 0 or more
"""


@pytest.mark.parametrize(("call", "kind", "text"), rows(RUN))
async def test_a_wrong_argument_of_an_agent_is_told_in_the_callers_line(
    call: str, kind: type[Exception], text: str
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(kind, match=f"^{text}") as caught:
            await given(call, r=rollout)
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[1:] == ["run_agent"]
        with pytest.raises(kind, match=f"^{text}"):
            given(call, r=SimpleNamespace(run_agent=rollout.open_agent))


async def test_an_agent_that_is_not_there_is_told_in_a_few_lines() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(AgentFailed, match="there is no such command") as caught:
            await rollout.run_agent(["claud"])
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    text = "".join(traceback.format_exception(caught.value))
    assert not any(f"_rollout/{name}.py" in text for name in ("agent", "command", "process"))


async def test_a_handler_that_returns_a_refusal_is_told_to_raise_it() -> None:
    async def returning(exchange: Exchange) -> Any:
        return Refusal(404, "no")

    with pytest.raises(Unanswered, match="write `raise`, because `return` gives no answer"):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(returning) as rollout:
            await ask(rollout)


async def test_a_handlers_fault_says_whose_it_is_once() -> None:
    shared = KeyError("boom")

    async def failing(exchange: Exchange) -> None:
        raise shared

    async with serve_endpoint() as endpoint:
        for name in ("r1", "r2"):
            with pytest.raises(KeyError, match="boom"):
                async with endpoint.open_rollout(failing, id=name) as rollout:
                    await ask(rollout)
    (note,) = shared.__notes__
    assert re.fullmatch(r"in the handler of rollout r1, exchange \S+", note)


async def test_a_rollout_that_is_opened_in_asyncio_says_that_it_needs_trio() -> None:
    async def opens(endpoint: Endpoint) -> None:
        async with endpoint.open_rollout(echo):
            pytest.fail("it began")

    async with serve_endpoint() as endpoint:
        with pytest.raises(RuntimeError, match=r"^open_rollout needs trio"):
            await trio.to_thread.run_sync(asyncio.run, opens(endpoint))


async def test_a_rollout_without_a_state_says_so() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, id="r") as rollout:
        url, key = rollout.service_url("state"), {"authorization": f"Bearer {rollout.api_key}"}
        async with httpx2.AsyncClient(verify=False) as client:
            told = await client.get(url, headers=key)
    assert told.status_code == 404
    assert "rollout r has no state: pass the initial state to open_rollout as state=" in told.text


@pytest.mark.parametrize(("value", "wanted"), [(nan, "a number, not nan"), (-inf, "finite, not .*inf.*")])
async def test_a_score_may_be_below_0_and_is_told_so_where_it_is_no_number(value: float, wanted: str) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        await rollout.score("loss", -3.0)
        with pytest.raises(ValueError, match=f"^a score must be {wanted}"):
            await rollout.score("loss", value)


@pytest.mark.parametrize("name", ["key", "api_key"])
async def test_a_rollout_that_is_given_a_key_says_that_it_has_its_own(name: str) -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(TypeError, match=f"keyword argument '{name}'; .* read `rollout.api_key`"):
            endpoint.open_rollout(echo, **{name: "sk-1"})  # type: ignore[arg-type]


async def test_an_agent_in_one_text_is_to_be_written_as_items() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(AgentFailed, match=r"item of its own, as in \['python', '-m', 'agent'\]"):
            await rollout.run_agent(["python -m agent"])


async def test_a_second_answer_says_what_the_first_one_was() -> None:
    errors = []

    async def handler(exchange: Exchange) -> None:
        await exchange.respond("the first")
        try:
            await exchange.respond("the second")
        except triocept.errors.AlreadySettled as exc:
            errors.append(str(exc))

    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        await ask(rollout)
    assert "already has an outcome, the answer 'the first'" in errors[0]
    assert errors[0].endswith("; to send several texts in one answer, use open_stream")


def test_a_class_that_derives_from_dialect_is_refused() -> None:
    with pytest.raises(TypeError, match="class Mine: Dialect is not a base class"):
        type("Mine", (dialects.Dialect,), {})


def one_argument(call: Any) -> None: ...


MISUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a tool's argument": (
        lambda: types.ToolCall("bash", command="ls"),  # type: ignore[call-arg]
        r"^ToolCall accepts only its own fields .* 'command'; to pass the tool's arguments by name, use ToolCall\.of$",
    ),
    "replies without a list": (
        lambda: triocept.ScriptedModel("hello", "world"),  # type: ignore[arg-type]
        r"^a script must be one list of replies: write ScriptedModel\(\['hello', 'world'\]\)$",
    ),
    "a policy of one argument": (
        lambda: handlers.approve(echo, one_argument),  # type: ignore[arg-type]
        r"; `one_argument` must take two arguments \(call, exchange\)$",
    ),
}


@pytest.mark.parametrize(("make", "text"), MISUSED.values(), ids=MISUSED)
def test_a_known_misuse_names_what_to_write(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()
