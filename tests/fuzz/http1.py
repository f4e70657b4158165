"""HTTP/1.1: its own way and the way through hypercorn and ASGI are one, in whatever segments the bytes come.

Each input goes four ways: by either, in one segment and in its own. In all of them there are the same statuses, the
same bodies, the same exchanges, and the same fate of the connection; what may differ is in `DIFFERENCES`.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import trio

from tests.ways import WAYS

from .kind import Check, Input, Kind, Unfit, as_bytes, expect
from .mutate import cut_up, mutated
from .races import check_race, generate_race
from .requests import any_request, call, is_sound, plain_requests, sound
from .stage import KEY, Stage, open_stages
from .wire import Answer, answers

ENDINGS = ("close", "reset", "half", "wait")


def generate(random: Random) -> Input:
    if random.random() < 0.15:
        return generate_race(random)
    made = [any_request(random) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    if random.random() < 0.15:
        made[0] = call(random, f"smuggled {call(random)}")
    if random.random() < 0.25:
        made = [call(random, random.choice(("", "stream", "late", "refuse", "big"))) for _ in made]
    text = "".join(made)
    if random.random() < 0.1:
        text = sound(random)
    elif random.random() < 0.7:
        text = mutated(random, text)
    return {"segments": cut_up(random, text), "end": random.choice(ENDINGS)}


@dataclass
class Seen:
    """What came of an input, one way."""

    answers: list[Answer]
    exchanges: list[str]
    fate: str
    unsent: int


@asynccontextmanager
async def open_check() -> AsyncIterator[Check]:
    async with open_stages({"way": WAYS[0]}, {"way": WAYS[1]}) as stages:
        tried = 0

        async def check(value: Input) -> None:
            nonlocal tried
            tried += 1
            if "race" in value:
                await check_race(value, stages)
            else:
                await _check(value, stages, honest=tried % 8 == 0)

        yield check


async def _check(value: Input, stages: list[Stage], *, honest: bool) -> None:
    try:
        segments = [str(each) for each in value["segments"]]
        end = value["end"]
        text = "".join(segments)
        text.encode("latin-1")
    except (KeyError, TypeError, UnicodeError, ValueError) as exc:
        raise Unfit from exc
    if end not in ENDINGS:
        raise Unfit
    ways: dict[str, Seen] = {}
    for stage, name in zip(stages, WAYS, strict=True):
        ways[f"{name}, in one segment"] = await _try(stage, [text], end, honest=honest)
        ways[f"{name}, cut"] = await _try(stage, segments, end, honest=False)
    first, *others = ways
    for name in others:
        _compare(first, ways[first], name, ways[name])
    if is_sound(text) and end in ("close", "wait"):
        for name, seen in ways.items():
            lost = seen.unsent or seen.fate == "broken" or len(seen.answers) != 1 or not seen.answers[0].whole
            expect(not lost, "the answer of a whole request is lost", f"{name}: {shown(seen)}")
    if (plain := plain_requests(text)) and not (end == "half" and "late" in text):
        for name, seen in ways.items():
            _is_plain(name, seen, plain, text)


async def _try(stage: Stage, segments: list[str], end: str, *, honest: bool) -> Seen:
    whole = as_bytes(stage.with_key("".join(segments)))
    with stage.connect() as client:
        at = 0
        for number, segment in enumerate(segments):
            await client.send(whole[at : at + len(segment)])
            at += len(segment)
            if honest and number == 0:
                await stage.ask_honestly()
        if end == "half":
            client.end()
        await client.settle()
        for _ in range(3):
            await trio.sleep(6)  # for who is late, and what is thrown away
            await client.settle()
        if end in ("half", "wait"):
            await trio.sleep(200)  # over each limit of time
            await client.settle()
        key = stage.rollout.api_key
        exchanges = [json.dumps(each, sort_keys=True).replace(key, KEY) for each in stage.exchanges]
        seen = Seen(
            answers(client.got.replace(key.encode(), KEY.encode()), heads=b"HEAD " in whole),
            exchanges,
            client.fate,
            client.unsent,
        )
        client.close(reset=end == "reset")
    await stage.look()
    return seen


_IDS = re.compile(
    rb"(?:chatcmpl-|cmpl-|resp_|msg_|req_|toolu_|call_|item_|rs_|fc_|e_)[0-9A-Za-z_-]+|\"created(?:_at)?\":\d+|\"responseId\":\"[^\"]*\"|"
    rb"\"completed_at\":\d+|sk-triocept-[\w-]+"
)


def _essence(answer: Answer) -> Any:
    return answer.status, answer.kind, answer.whole, _IDS.sub(b"ID", answer.body)


def _compare(first: str, one: Seen, name: str, other: Seen) -> None:
    said = f"\n{first}: {shown(one)}\n{name}: {shown(other)}"
    expect(one.exchanges == other.exchanges, "two ways, two sets of exchanges", said)
    if any(may_differ(one, other) or may_differ(other, one) for may_differ in DIFFERENCES):
        return
    expect(
        [a.status for a in one.answers] == [a.status for a in other.answers], "two ways, two statuses", said
    )
    expect(
        list(map(_essence, one.answers)) == list(map(_essence, other.answers)), "two ways, two bodies", said
    )
    fates = [seen.fate == "open" for seen in (one, other)]  # a close is a reset where bytes came behind it
    expect(fates[0] == fates[1], "two ways, two fates of the connection", said)


def shown(seen: Seen) -> str:
    got = [(a.status, a.kind, a.whole, a.headers.get("connection"), a.body[:150]) for a in seen.answers]
    return f"{got} {len(seen.exchanges)} exchanges, {seen.fate}, {seen.unsent} unsent"


def _is_plain(name: str, seen: Seen, count: int, text: str) -> None:
    """Requests that nothing is wrong with are all answered, each with its own words."""
    tokens = re.findall(r"T\d{9}", text)
    told = [set(re.findall(rb"T\d{9}", answer.body)) for answer in seen.answers]
    for token, words in zip(tokens, told, strict=False):
        expect(
            words <= {token.encode()}, "an answer has the words of another", f"{name}: {words} {shown(seen)}"
        )
    if "fail" not in text:
        expect(
            len(seen.answers) == count and seen.unsent == 0,
            "a plain request is not answered",
            f"{name}: {shown(seen)}",
        )
        expect(len(seen.exchanges) == count, "a plain request is not one exchange", f"{name}: {shown(seen)}")


def _cut_body(one: Seen, other: Seen) -> bool:
    """A body that its client's end cuts: h11 says 400, our own way says nothing. Nobody waits for it."""
    return _is_h11s(one.answers[len(other.answers) :]) and one.fate != "open" and other.fate != "open"


def _broken_body(one: Seen, other: Seen) -> bool:
    """A body that is broken: it may be seen to be, and told 400, before the rest of its request is answered, or not."""
    short, at = one.answers, len(one.answers) - 1
    return (
        _is_h11s(short[at:]) and one.fate != "open" and other.fate != "open" and len(other.answers) == at + 1
    )


def _is_h11s(answers: list[Answer]) -> bool:
    """Whether that is h11's one word for what is no HTTP."""
    return [(answer.status, answer.body) for answer in answers] == [(400, b"")]


DIFFERENCES = (_cut_body, _broken_body)
"""What may be different, and why."""

HTTP1 = Kind("http1", generate, open_check, batch=200)
