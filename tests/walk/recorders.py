"""Recorders of every temper; what each is given stands in the account."""

import os
from pathlib import Path

import trio

from triocept import JSONLRecorder, Trace, Turn
from triocept.traces import Entry, Intent, Recorder, RecorderGroup

from .account import Account, Raised
from .wire import nonce_in, turns


class RecorderBroken(Exception):
    """What a recorder that can fail raises."""


class _Book:
    """A recorder that keeps turns in the account; `numbers` are those of rollouts by the ids of their runs."""

    def __init__(self, account: Account, temper: str, numbers: dict[str, int]) -> None:
        self.account = account
        self.temper = temper
        self.numbers = numbers

    async def record(self, turn: Turn) -> None:
        account, nonce = self.account, _nonce_of(turn)
        if turn.run in account.seals:
            account.violate("sealed", f"turn {turn.number} of {nonce} was recorded behind the seal")
        match self.temper:
            case "awaiting":
                await turns(5)
            case "slow":
                await trio.sleep(0.003)
            case "failing":
                await turns(2)
                if (plan := account.plans.get(nonce)) is not None and plan.unrecorded:
                    error = RecorderBroken(f"no room for turn {turn.number} of {nonce} in {turn.run}")
                    account.faults.append(
                        Raised(
                            error, self.numbers.get(turn.run, -1), f"the recorder, at {nonce}", anybody=True
                        )
                    )
                    account.broken.add(self.numbers.get(turn.run, -1))
                    raise error
        account.records.setdefault(turn.run, []).append(turn)
        account.recorded |= {nonce, turn.id}

    async def seal(self, trace: Trace) -> None:
        self.account.seals[trace.run] = self.account.seals.get(trace.run, 0) + 1

    async def aclose(self) -> None:
        pass


class _WholeBook(_Book):
    """One that takes its time for the calls before they are handed over, too."""

    async def record_entry(self, entry: Entry) -> None:
        if isinstance(entry, Intent):
            await turns(5)


class Recorders:
    """Those of one walk."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.numbers: dict[str, int] = {}
        self.path = folder / "turns.jsonl"
        self._account = account
        self._books = {temper: kind(account, temper, self.numbers) for temper, kind in _KINDS.items()}
        # Two of them on one file, as two programs have them.
        self._files = {name: JSONLRecorder(self.path) for name in ("jsonl", "other jsonl")}

    def __getitem__(self, temper: str) -> Recorder | None:
        if temper == "none":
            return None
        if temper in self._files:
            return RecorderGroup([self._files[temper], self._books["memory"]])
        return self._books[temper]

    def cut_line(self, size: int) -> None:
        """What a program leaves that is killed in the middle of a line."""
        line = (
            b'{"type":"turn","version":1,"turn":{"id":"x_killed","rollout":"r_killed","request":{"messages":['
            * 3
        )
        with open(self.path, "ab", buffering=0) as file:
            os.write(file.fileno(), line[:size])
        self._account.cut_lines += 1

    async def close(self) -> None:
        for file in self._files.values():
            await file.aclose()


_KINDS = {"memory": _Book, "awaiting": _WholeBook, "slow": _WholeBook, "failing": _Book}


def _nonce_of(turn: Turn) -> str:
    last = turn.request.last
    return nonce_in(last.text) if last is not None else ""
