"""What must hold of a walk, whatever happened in it. One function for each line of it.

What is nobody's fault is said where it is let pass: a connection may break where its endpoint ended, an answer may be
missing where its client has left, and a call may be refused without a turn where its rollout had a reason to end.
"""

import json
import warnings
from collections import Counter, defaultdict
from math import inf
from pathlib import Path

import msgspec

from triocept import DialectError, RolloutClosed, Trace, Turn, UpstreamError, read_traces
from triocept.errors import EndpointCrashed, Unanswered

from .account import Account, Seen
from .history import SECRET
from .recorders import RecorderBroken
from .rollouts import BodyError
from .wire import answer_of, exchange_in, nonce_in, nonces_in

Turns = dict[str, list[Turn]]
MARK = "[redacted]"


def draw_up(account: Account, file: Path) -> None:
    """Hold every line against the account."""
    turns: Turns = defaultdict(list)
    for kept in account.kept:
        for turn in kept.trace:
            turns[_nonce_of(turn)].append(turn)
    for seen in account.seen:
        _whose_answer(account, seen)
        _agreement(account, seen, turns)
    _one_client_each(account)
    _secrets(account)
    _one_turn_each(account, turns)
    _recorders_have_it(account)
    _numbers(account)
    _sealed_once(account)
    _whose_turn(account, turns)
    _faults_are_told(account)
    _nothing_else_is_told(account)
    _limits(account)
    _file(account, file)


def _nonce_of(turn: Turn) -> str:
    last = turn.request.last
    return nonce_in(last.text) if last is not None else ""


def _whose_answer(account: Account, seen: Seen) -> None:
    """Nobody's answer goes to somebody else."""
    if others := nonces_in(seen.body) - {seen.nonce}:
        account.violate("whose answer", f"{seen} was told of {others}")


def _agreement(account: Account, seen: Seen, turns: Turns) -> None:
    """What a client saw is what the trace says."""
    if not seen.done:
        return  # it hangs, which was said
    outcomes = {turn.outcome for turn in turns[seen.nonce]}
    if seen.whole and seen.status == 200:
        _answered(account, seen, turns[seen.nonce])
    elif seen.whole and seen.status is not None:
        _refused(account, seen, turns[seen.nonce])
    elif seen.rollout_over and account.plans[seen.nonce].size > 3_000:
        pass  # a big answer has a second to arrive when its rollout is left
    elif seen.broken and not (
        seen.left or seen.excused or seen.place_shaky or outcomes & {"refused", "failed"}
    ):
        account.violate("lost answer", f"{seen}: {seen.broken}, and its turns say {outcomes or 'nothing'}")


def _answered(account: Account, seen: Seen, turns: list[Turn]) -> None:
    answers = [turn for turn in turns if turn.outcome == "answered" and turn.response is not None]
    if not answers:
        account.violate("agreement", f"{seen} has an answer, and its turns say {[t.outcome for t in turns]}")
    if not seen.recorded and not seen.left:
        account.violate("recorded before released", f"{seen} had its answer before that was recorded")
    try:
        text = answer_of(seen.step.dialect, seen.body, stream=seen.step.stream)
    except (DialectError, UpstreamError, ValueError) as exc:
        account.violate("a whole answer", f"{seen}: {exc!r} in {seen.body[-300:]!r}")
        return
    texts = {turn.response.text for turn in answers if turn.response is not None}
    if answers and text not in texts and text.replace(SECRET, MARK) not in texts:
        account.violate("agreement", f"{seen} was told {text[:100]!r}… ({len(text)}), which no turn says")


def _refused(account: Account, seen: Seen, turns: list[Turn]) -> None:
    assert seen.status is not None
    told = f"{seen} was told {seen.status} {seen.body[:200]!r}"
    statuses = {turn.error.status for turn in turns if turn.error is not None}
    if seen.step.bad:
        if not 400 <= seen.status < 500 and not seen.rollout_over:
            account.violate("agreement", f"{told}, though its request was bad")
    elif any(turn.outcome in ("refused", "failed") for turn in turns):
        if seen.status not in statuses and not seen.rollout_over:
            account.violate("agreement", f"{told}, and its turns say {statuses}")
    elif not (seen.status in (401, 404, 503) and seen.rollout_over):
        account.violate("agreement", f"{told}, and its turns say {[turn.outcome for turn in turns]}")


def _one_client_each(account: Account) -> None:
    """An answer that somebody has whole goes to no other, unless that one asks again."""
    firsts = [seen for seen in account.seen if seen.whole and seen.status == 200 and not seen.attempt]
    for exchange, times in Counter(exchange_in(seen.body) for seen in firsts).items():
        if exchange and times > 1:
            account.violate(
                "one client", f"{times} have the answer of {exchange}, none of which has asked again"
            )


def _secrets(account: Account) -> None:
    """What is to be taken out of a record is not in it."""
    for kept in account.kept:
        if kept.step.redacts:
            for turn in kept.trace:
                if SECRET.encode() in msgspec.json.encode(msgspec.to_builtins(turn)):
                    account.violate(
                        "redaction", f"turn {turn.number} of rollout {kept.step.number} has the secret"
                    )


def _one_turn_each(account: Account, turns: Turns) -> None:
    """An exchange that was taken has one turn; so has every other."""
    count = Counter(turn.id for each in turns.values() for turn in each)
    for turn_id, number in count.items():
        if number != 1:
            account.violate("one turn", f"exchange {turn_id} has {number}")
    for exchange, times in Counter(exchange for exchange, _, _ in account.taken).items():
        if times != 1:
            account.violate("one turn", f"exchange {exchange} was taken {times} times")
    for exchange, nonce, number in account.taken:
        if exchange not in count:
            account.violate("one turn", f"{nonce}, of rollout {number}, was taken and has none")
    asked = Counter(seen.nonce for seen in account.seen)
    for nonce, each in turns.items():
        if len(each) > asked[nonce]:
            account.violate("one turn", f"{nonce} was asked {asked[nonce]} times and has {len(each)}")


def _recorders_have_it(account: Account) -> None:
    """A recorder has the turns of the trace, but for those that it did not take."""
    for kept in account.kept:
        if kept.recorder == "none":
            continue
        in_trace = [turn.id for turn in kept.trace if not _is_unrecorded(turn)]
        recorded = [turn.id for turn in account.records.get(kept.trace.run, [])]
        if in_trace != recorded:
            account.violate(
                "recorder is trace", f"rollout {kept.step.number}: {len(in_trace)} and {len(recorded)} turns"
            )


def _is_unrecorded(turn: Turn) -> bool:
    return turn.error is not None and turn.error.message.startswith("the turn could not be recorded: ")


def _numbers(account: Account) -> None:
    for kept in account.kept:
        numbers = [turn.number for turn in kept.trace]
        if numbers != list(range(len(numbers))):
            account.violate("numbers", f"rollout {kept.step.number}: {numbers}")


def _sealed_once(account: Account) -> None:
    for kept in account.kept:
        seals = account.seals.get(kept.trace.run, 0)
        if not kept.trace.sealed or (seals != 1 and kept.recorder != "none"):
            account.violate("sealed", f"rollout {kept.step.number}: {kept.trace.sealed}, and {seals} times")


def _whose_turn(account: Account, turns: Turns) -> None:
    """A turn's answer is that to its own question."""
    for nonce, each in turns.items():
        for turn in each:
            text = turn.response.text if turn.response is not None else ""
            if turn.outcome == "answered" and nonces_in(text.encode()) != {nonce}:
                account.violate("whose turn", f"{nonce}: {text[:200]!r}")


def _faults_are_told(account: Account) -> None:
    """Nothing that a handler raises vanishes."""
    everybody = {id(error) for told in account.told.values() for error in told}
    for fault in account.faults:
        told = {id(error) for error in account.told.get(fault.rollout, [])}
        if id(fault.error) not in (everybody if fault.anybody else told):
            account.violate("a vanished exception", f"{fault.what}, of rollout {fault.rollout}")
    for kept in account.kept:
        heard = [str(error) for error in account.told[kept.step.number] if isinstance(error, Unanswered)]
        stays = kept.step.on_fault == "stay"  # what comes behind a fault has its outcome
        for turn in kept.trace:
            unanswered = turn.error is not None and turn.error.type == "Unanswered"
            if unanswered and not (any(turn.id in text for text in heard) or (stays and heard)):
                account.violate("a vanished exception", f"Unanswered, of rollout {kept.step.number}")


def _nothing_else_is_told(account: Account) -> None:
    """An owner hears of faults, and of ends, and of nothing else."""
    known = {id(fault.error) for fault in account.faults}
    for number, told in account.told.items():
        for error in told:
            expected = isinstance(error, BodyError | RecorderBroken | RolloutClosed | Unanswered)
            crashed = isinstance(error, EndpointCrashed) and account.crashed
            twin = isinstance(error, ValueError) and "is open already" in str(error)
            if not (id(error) in known or expected or crashed or twin):
                account.violate("a foreign exception", f"{error!r} left rollout {number}")


def _limits(account: Account) -> None:
    """No more at once, and no more in all, than was said."""
    for kept in account.kept:
        number, most = kept.step.number, account.room.get(kept.step.number, inf)
        at_once = account.most_at_once.get(number, 0)
        if kept.step.form in ("handler", "serve") and at_once > most:
            account.violate("concurrency", f"rollout {number}: {at_once} at once, of {most}")
        answered = sum(turn.outcome == "answered" for turn in kept.trace)
        if answered > kept.step.limits.get("turns", inf):
            account.violate("limits", f"rollout {number}: {answered} answers, of {kept.step.limits}")


def _file(account: Account, path: Path) -> None:
    """The file of turns says the same, and what other programs have left in it costs nobody anything."""
    wanted = [kept for kept in account.kept if "jsonl" in kept.recorder]
    if not path.exists():
        if any(len(kept.trace) for kept in wanted):
            account.violate("file", "there is none")
        return
    damages: list[DialectError] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, Trace] = {
                trace.run: trace for trace in read_traces(path, on_damage=damages.append)
            }
    except DialectError as exc:
        if wanted:
            account.violate("file", f"it cannot be read: {exc}")
        return
    for kept in wanted:
        read = found.get(kept.trace.run)
        if read is None:
            account.violate("file", f"rollout {kept.step.number} is not in it")
        elif not read.sealed or len(read) != len(kept.trace):
            counts = f"{len(read)} of {len(kept.trace)} turns, sealed: {read.sealed}"
            account.violate("file", f"rollout {kept.step.number} is there with {counts}")
        else:
            for one, other in zip(read, kept.trace, strict=True):
                if one != other:
                    account.violate("file", f"rollout {kept.step.number}: {one!r:.1500} is {other!r:.1500}")
    _lines_of_their_own(account, path)
    if len(damages) > account.cut_lines:
        account.violate("file", f"{len(damages)} damaged lines, of {account.cut_lines}: {damages[:3]}")


def _lines_of_their_own(account: Account, path: Path) -> None:
    """What is left of a line has no other behind it: not every reader of the file could tell them apart."""
    ids = {turn.id for kept in account.kept for turn in kept.trace}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            json.loads(line or b"{}")
        except ValueError:
            if found := [turn_id for turn_id in ids if turn_id.encode() in line]:
                account.violate("file", f"line {number} is a cut one, and has the turn {found[0]} in it, too")
