"""Things that happen in one turn of the event loop: an answer fails, its client speaks or leaves, another one comes.

The descriptor of the connection that is broken off is free at once, and the kernel gives it to the next.
"""

from contextlib import ExitStack
from random import Random

import trio

from .kind import Input, Unfit, as_bytes, expect
from .requests import call, plain_requests
from .stage import Client, Stage, settle

TIMES = 3
"""What is ready at once runs in an order of chance."""
ACTIONS = ("go", "speak", "leave", "reset", "come", "turn", "turn", "turn")


def generate_race(random: Random) -> Input:
    held = random.choice(
        ("fail hold", "fail hold", "fail hold", "stream hold", "wait", "wait refuse", "wait big")
    )
    if random.random() < 0.7:  # all at once, some turns later
        at_once = random.sample(("speak", "come", "leave", "reset"), 3)
        actions = ["go", *(["turn"] * random.randrange(7)), *at_once]
    else:
        actions = [random.choice(ACTIONS) for _ in range(random.randint(2, 7))]
    return {"race": actions, "held": call(random, held), "next": call(random)}


async def check_race(value: Input, stages: list[Stage]) -> None:
    """Whoever comes is answered."""
    try:
        actions, held, following = list(value["race"]), str(value["held"]), str(value["next"])
        as_bytes(held + following)
    except (KeyError, TypeError, UnicodeError) as exc:
        raise Unfit from exc
    if not set(actions) <= set(ACTIONS) or plain_requests(held) != 1 or plain_requests(following) != 1:
        raise Unfit
    for stage in stages:
        for _ in range(TIMES):
            await _race(stage, actions, held, following)


async def _race(stage: Stage, actions: list[str], held: str, following: str) -> None:
    with ExitStack() as clients:
        await _act(stage, actions, held, following, clients)
    await stage.look()


async def _act(stage: Stage, actions: list[str], held: str, following: str, clients: ExitStack) -> None:
    victim, guests = clients.enter_context(stage.connect()), []
    await victim.send(as_bytes(stage.with_key(held)))
    gone = False
    for action in actions:
        match action:
            case "go":
                stage.go.set()
            case "turn":
                await trio.lowlevel.checkpoint()
            case "come":
                guest = clients.enter_context(stage.connect())
                await guest.put(as_bytes(stage.with_key(following)))
                guests.append(guest)
            case "speak" if not gone:
                await victim.put(as_bytes(stage.with_key(following)))
            case "leave" | "reset" if not gone:
                victim.close(reset=action == "reset")
                gone = True
    await settle()
    await _are_answered(guests)


async def _are_answered(guests: list[Client]) -> None:
    for guest in guests:
        await guest.settle()
        guest.close()
        expect(guest.got.startswith(b"HTTP/1.1 200 "), "one who came is not answered", guest.got[:200])
