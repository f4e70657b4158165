"""What a call does: ask, read, hang up at the worst moment, ask again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import trio

from triocept import Rollout, RolloutClosed

from .account import Seen
from .history import Call, RunAgent, Visit
from .services import VISITS
from .wire import BROKEN, ask_of, nonces_in, turns

if TYPE_CHECKING:
    from .world import World


async def make_call(world: World, step: Call) -> None:
    """All attempts at one call."""
    nonce = world.nonce(step)
    for attempt in range(step.retries + 1):
        if step.rollout not in world.rollouts or world.rollouts[step.rollout].rollout is None:
            return
        seen = Seen(step, nonce, attempt)
        world.account.seen.append(seen)
        leaves = step.leaves if attempt < max(1, step.retries) else ""
        try:
            await _attempt(world, step, seen, leaves)
        except BROKEN as exc:
            seen.broken = seen.broken or repr(exc) or "broken"
        world.see_end(seen)
        if seen.whole:
            return
        await turns(step.turns)


async def _attempt(world: World, step: Call, seen: Seen, leaves: str) -> None:
    home = world.rollouts[step.rollout]
    rollout = home.rollout
    seen.phase = "connects"
    connection = world.connection(step.way, step.connection, rollout)
    call: Any = connection.call()
    try:
        path, headers, body = ask_of(step, seen.nonce, rollout.id, rollout.api_key, seen.attempt)
        del rollout
        seen.phase = "sends"
        part = leaves == "sending"
        await call.send(path, headers, body, chunked=step.chunked, cut=step.cut, part=part)
        seen.asked = not part
        if leaves:
            await _leave(world, step, seen, call, leaves)
        if not (seen.left or seen.whole):
            await _read(world, seen, call)
    except BROKEN as exc:
        seen.broken = repr(exc)
        raise
    finally:
        seen.left = seen.left or connection.left
        seen.excused = call.excused
        call.end(broken=not seen.whole)
        if step.connection == 0 or step.way == "websocket":
            await connection.close()


async def _leave(world: World, step: Call, seen: Seen, call: Any, leaves: str) -> None:
    """Hang up, unless the answer was there before."""
    if leaves == "streaming":
        seen.phase = "waits for the beginning"
        seen.status = await call.head()
        while seen.nonce.encode() not in seen.body and (data := await call.more()):
            seen.body += data
        if seen.nonce.encode() not in seen.body:
            _have_it_all(world, seen)  # it ended without
            return
    if leaves == "at signal":
        seen.phase = "waits for its signal"
        await world.leaves(seen.nonce).wait()
    else:
        await turns(step.turns)
    seen.phase = "leaves"
    seen.left = True
    call.leave(step.how)
    if (
        step.how == "half" and step.way == "http1" and step.connection
    ):  # nobody reads here: it goes in two steps
        await turns(step.turns)
        call.leave("close")
    elif step.how == "half" and step.way == "http1":  # it reads on, as some do
        seen.phase = "has left by half"
        while await call.connection.stream.receive_some():
            pass


async def _read(world: World, seen: Seen, call: Any) -> None:
    seen.phase = "waits for the head"
    seen.status = await call.head()
    seen.phase = f"reads the body of its {seen.status}"
    while data := await call.more():
        seen.body += data
    _have_it_all(world, seen)


def _have_it_all(world: World, seen: Seen) -> None:
    seen.whole = True
    seen.recorded = world.is_recorded(seen)
    seen.phase = "has it all"


ACCEPTED = "application/json, text/event-stream"
"""What MCP wants."""


async def visit(world: World, step: Visit) -> None:
    """Ask for something else on a connection that model calls use."""
    home = world.rollouts.get(step.rollout)
    if home is None or (rollout := home.rollout) is None:
        return
    try:
        connection = world.connection("http1", step.connection, rollout)
        call = connection.call()
        whole = False
        try:
            key = rollout.api_key if step.key else "sk-of-somebody-else"
            path = f"/rollout/{rollout.id}" * step.prefix + step.path.partition("#")[0]
            document = VISITS[step.path]
            body = None if document is None else json.dumps(document).encode()
            await call.visit(path, {"authorization": f"Bearer {key}", "accept": ACCEPTED}, body)
            if step.leaves is not None:
                await turns(step.leaves)
                call.leave("reset")
                return
            status = await call.head()
            body = b""
            while data := await call.more():
                body += data
            whole = True
            faulty = any(fault.rollout == step.rollout for fault in world.account.faults)
            if nonces_in(body):
                world.account.violate("whose answer", f"{step!r} was told of {nonces_in(body)}")
            if status not in (200, 401, 404, 405, 501, 503, 400, 406) and not (status == 500 and faulty):
                world.account.violate("status", f"{step!r} was told {status}: {body[:300]!r}")
        finally:
            call.end(broken=not whole)
            if step.connection == 0:
                await connection.close()
    except BROKEN:
        pass


PROGRAM = """
import json, os, sys, urllib.request
body = json.dumps({"model": "m", "messages": [{"role": "user", "content": sys.argv[1]}]}).encode()
headers = {"authorization": "Bearer " + os.environ["TRIOCEPT_API_KEY"], "content-type": "application/json"}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
    print(answer.read().decode())
"""


async def run_agent(world: World, step: RunAgent, rollout: Rollout) -> None:
    """A process that asks once. What it sees is its own business, but for whose answer that is."""
    nonce = world.nonce(step)
    call = Call(number=step.number, rollout=step.rollout, plan=step.plan)
    seen = Seen(call, nonce, 0, phase="runs an agent", left=True)
    world.account.seen.append(seen)
    try:
        argv = [sys.executable, "-S", "-c", PROGRAM, f"say {nonce}"]
        result = await rollout.run_agent(argv, terminate_grace=0.3)
        for other in nonces_in(result.stdout) - {nonce}:
            world.account.violate("whose answer", f"the agent of {nonce} was told of {other}")
    except (RolloutClosed, trio.ClosedResourceError) as exc:
        if not world.rollouts[step.rollout].has_reason:
            world.account.violate("a foreign exception", f"{exc!r} left the agent of {nonce}")
    finally:
        world.see_end(seen)
