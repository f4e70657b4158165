"""Find the events that must happen before a replay sends a recorded answer, for agents with concurrent sub-agents.

Agents mark neither the turn that began a sub-agent, nor the call that first reports the sub-agent's end. A sub-agent's
first call contains the prompt from the tool call that launched the sub-agent. The sub-agent's result comes back in one
of two ways. Either it is the result of this tool call, for which the launching conversation waits. Or the agent inserts
it into the launching conversation at its current end (Claude Code from 2.1.3xx on: `<task-notification>`). Claude Code
uses the same name for a sub-agent in its calls and in these notifications, so two sub-agents with equal final texts can
be distinguished.

The next call of the launching conversation reports the end of a concurrent sub-agent. So the content of this call
depends on timing, and matching by content alone cannot find it again. The following rules solve this. (Without them, 4
of 10 runs of Claude Code with two sub-agents and a compaction failed.)

1. A turn of the launching conversation waits for the turns of sub-agents that had settled before the next call of this
   conversation came. ("Next" means next in time, because a compaction's call continues no turn.)
2. The last turn of a sub-agent waits for the calls of the launching conversation that had come before it, and for the
   last turns of sub-agents that had ended before.
3. If a call came directly after a sub-agent's end but does not report it, the agent had made this call before it
   processed the end. So the position of an end is found from the reports in calls:

   * A compaction's call reports no new end. The first call after it reports the ends that came before the compaction's
     call was sent (observed with Claude Code 2.1.332), or before this call was answered. The second call after it
     reports the other ends.
   * The first call after a compaction may list a sub-agent as ended whose end a later call reports. Then the sub-agent
     ended after the compaction's call was made, and before this call was answered.
   * If the call directly after an end is the conversation's last call and does not report the end, it was made before
     the end.
   * An answer that launched a sub-agent cannot wait for the sub-agent's end. If the next call requests a summary and
     the call after the summary reports the end, the answer with the summary waits for this end.
4. If a side call without tools requested a summary, it counts as a call of the conversation that continues from the
   summary.
5. No other turn waits, and no turn waits for an event that can only come later. A turn does not wait if this would
   close a cycle of waits, or if the event is a disconnect, which may be the end of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import is_not
from typing import NamedTuple

from ..._canonical.content import Message, Text
from ..._canonical.form import arguments_value
from ..._canonical.memory import common_head
from ..._trace.relations import Relation
from ..._trace.texts import texts_in
from .record import Record, Recorded, Thread

_LEAST = 12
"""Minimum characters of a prompt or an answer that is searched for in other texts. A shorter text may occur in other
texts by chance."""
_NOTICE = "<task-id>"
"""Text that comes before a sub-agent's name in the message that reports the sub-agent's end."""
_HEAD = 40
"""Number of characters of a sub-agent's final text, from its beginning, that are searched for in tool results."""


class Report(NamedTuple):
    """The position at which a conversation first reports the end of a sub-agent.

    Reports are compared by their positions: an earlier report is less than a later report.
    """

    place: int
    """Index, in the conversation, of the call that contains the report."""
    text: int
    """Index of the text that contains the report, among the new texts of the call."""
    at: int
    """Number of characters before the report in this text."""


def launch_of(first: Recorded, turns: Sequence[Recorded]) -> Recorded | None:
    """Return the turn whose answer launched a sub-agent; None if no such turn is found.

    Args:
        first: the sub-agent's first turn.
        turns: all turns, in the order in which they settled.
    """
    before = [
        each
        for each in turns
        if each.settled <= first.arrived
        and each.thread != first.thread
        and each.turn.response is not None
        and each.turn.response.tool_calls
    ]
    asked = "\n".join(message.text for message in first.turn.request.messages if message.role == "user")
    for each in reversed(before):
        assert each.turn.response is not None
        for call in each.turn.response.tool_calls:
            texts = (text.strip() for text in texts_in(arguments_value(call.arguments)))
            if any(text in asked for text in texts if len(text) >= _LEAST):
                return each
    return next((each for each in reversed(before) if each.kind == "main"), None)


def report_of(ended: Sequence[Recorded], conversation: Sequence[Recorded]) -> Report | None:
    """Return the position at which `conversation` first reports a sub-agent's end.

    Return None if the conversation does not report this end.

    A text reports the end if it contains the sub-agent's name in a notification, or the sub-agent's final text.

    Args:
        ended: the sub-agent's turns.
        conversation: the turns of the launching conversation, in order of arrival.
    """
    said, notice = _said_at_end(ended), f"{_NOTICE}{_name(ended)}<"
    is_named = ended[-1].conversation.parent is not None
    found, before = None, tuple[Message, ...]()
    for place, each in enumerate(conversation):
        messages = each.turn.request.messages
        if each.arrived >= ended[-1].settled:
            # The texts of the agent and its user that the previous call did not contain.
            new = messages[common_head(messages, before, is_not) :]
            parts = (part for one in new if one.role != "assistant" for part in one.content)
            texts = (part.text for part in parts if isinstance(part, Text))
            for number, text in enumerate(texts):
                if (at := text.find(notice)) >= 0:
                    return Report(place, number, at)
                if found is None and len(said) >= _LEAST and not (is_named and _NOTICE in text):
                    found = Report(place, number, at) if (at := text.find(said)) >= 0 else None
        before = messages
    return found


def over_in(ended: Sequence[Recorded], call: Recorded) -> bool | None:
    """Return True if the request of `call` lists a sub-agent as ended, and False if it lists this sub-agent as running.

    Return None if the request does not list the sub-agent, whose turns are `ended`.

    Claude Code 2.1.332 lists its sub-agents by name in its first call after a compaction: `Task a25101af (type:
    local_agent) (status: completed)`, or `Background agent "count" (a25101af) is still running`.
    """
    name = re.escape(_name(ended))
    pattern = re.compile(rf"\b{name} \(type: [^)\n]*\) \(status: (?!running)|\({name}\) is still (running)")
    for message in call.turn.request.messages:
        if message.role != "assistant" and (found := pattern.search(message.text)):
            return found[1] is None
    return None


def is_silent(ended: Sequence[Recorded], call: Recorded) -> bool:
    """Return True if no tool result in the request of `call` contains the beginning of a sub-agent's final text.

    In some agents (Codex), a tool waits for the sub-agent, and returns this text within JSON. `ended` are the turns of
    the sub-agent. If the final text is too short to be searched for, return False.
    """
    said = _said_at_end(ended)
    head = said.partition("\n")[0][:_HEAD]
    given = (result.text for message in call.turn.request.messages for result in message.tool_results)
    return len(said) >= _LEAST and not any(head in text for text in given)


def _name(ended: Sequence[Recorded]) -> str:
    """Return the name that the agent gave a sub-agent: the last part of the id of the sub-agent's conversation."""
    return ended[-1].conversation.id.rpartition("/")[2]


def _said_at_end(ended: Sequence[Recorded]) -> str:
    response = ended[-1].turn.response
    return response.text.strip() if response is not None else ""


_RIGHT_BEHIND = 0.1
"""Maximum seconds between a sub-agent's end and a next call that the agent made before it processed this end. See
`MOMENT` in `handler`."""


class Happening(NamedTuple):
    """An event of a recorded turn: its outcome was known (if `settled` is True), or its call arrived."""

    number: int
    """Number of the turn in the record."""
    settled: bool


class _SubAgent(NamedTuple):
    launch: Recorded
    """The turn whose answer launched the sub-agent."""
    turns: Sequence[Recorded]
    family: Sequence[Recorded]
    """All turns of the launching conversation, and the side calls in which its summaries were made, in order of
    arrival."""
    parents: Mapping[str, str | None]
    """For each turn, by its id: the id of the turn that it continues; None if it continues no turn."""
    relations: Mapping[str, Relation]
    """For each turn, by its id: its relation to earlier turns."""
    report: Report | None
    """Position at which the launching conversation reports the sub-agent's end; None if it does not report the end."""

    @property
    def last(self) -> Recorded:
        return self.turns[-1]

    @property
    def informed(self) -> Recorded | None:
        """The last call of the launching conversation that came before the sub-agent ended; None if unknown."""
        seen = sum(each.arrived < self.last.settled for each in self.family) - 1
        report = self.report.place if self.report is not None else None
        for place, behind in enumerate(self.family[1:]):
            if (report is None or report > place + 1) and self._compacts(place):
                is_over = over_in(self.turns, behind)
                if is_over:
                    return self.family[place]
                seen = max(seen, place + 1) if is_over is False else seen
        # An agent that waits for the end of its sub-agent makes no call meanwhile.
        if report is None and seen + 2 == len(self.family) and self.family[seen] is not self.launch:
            call = self.family[seen + 1]
            if call.arrived - self.last.settled < _RIGHT_BEHIND and is_silent(self.turns, call):
                seen += 1
        place = seen
        if report:  # the last call before the push
            goes_on = self._goes_on(report - 1) and self._goes_on(report)
            if not goes_on and self._compacts(report - 1):
                place = report - 2
            elif goes_on or self._compacts(report - 2):
                place = report - 1
        if self._compacts(place) and self.family[place].settled < self.last.settled:
            place += 1  # the following call contains the earlier events
        return self.family[place] if place >= 0 else None

    def summary_behind(self, turn: Recorded) -> Recorded | None:
        """Return the next call of the launching conversation after `turn` if this call requests a compaction's summary.

        Otherwise return None.
        """
        place = next(place for place, each in enumerate(self.family) if each is turn) + 1
        return self.family[place] if self._compacts(place) else None

    def _goes_on(self, place: int) -> bool:
        """Return True if the launching conversation's call at index `place` continues the call before it."""
        return place == 0 or self.parents[self.family[place].turn.id] == self.family[place - 1].turn.id

    def _compacts(self, place: int) -> bool:
        """Return True if the call at index `place` requests the summary of a compaction.

        There are two cases. In the first, the next call of the conversation restarts from the summary in this call's
        answer. In the second, this call continues an earlier call of the conversation other than the last, and the next
        call continues no call.
        """
        if not 0 < place < len(self.family) - 1 or self._goes_on(place + 1):
            return False
        asked = self.family[place].turn.id
        if self.relations[self.family[place + 1].turn.id] == Relation(kind="compaction", turn=asked):
            return True
        if self._goes_on(place):
            return False
        return self.parents[self.family[place].turn.id] is not None


class Order:
    """The order of events in a record: for each recorded turn, the events for which its answer waits.

    Args:
        record: the recorded trace.
    """

    def __init__(self, record: Record) -> None:
        self.launches: dict[Thread, Recorded] = {}
        """The turn whose answer launched each sub-agent, by the key of the sub-agent's conversation."""
        self._turns = record.turns
        self.waits: dict[int, list[Happening]] = {}
        """The events for which the answer of each turn waits, by the turn's number."""
        self._after: dict[Happening, set[Happening]] = {}
        """The events that must happen before each event."""
        threads = record.threads
        for thread, turns in threads.items():
            if turns[0].kind == "sub_agent" and (launch := launch_of(turns[0], record.turns)) is not None:
                self.launches[thread] = launch
        if not self.launches:
            return
        parents, relations = record.trace.parents, record.trace.relations
        self._find_causes(threads)
        families = {
            thread: self._family(threads[thread], parents, relations)
            for thread in {launch.thread for launch in self.launches.values()}
        }
        sub_agents: list[_SubAgent] = []
        for thread, launch in self.launches.items():
            turns, family = threads[thread], families[launch.thread]
            report = report_of(turns, family)
            sub_agents.append(_SubAgent(launch, turns, family, parents, relations, report))
        ended = _in_order(sub_agents)
        for sub in ended:
            if (informed := sub.informed) is not None:
                end = Happening(sub.last.number, settled=True)
                if not self._wait(informed, end) and (summary := sub.summary_behind(informed)) is not None:
                    self._wait(summary, end)
                self._wait(sub.last, Happening(informed.number, settled=False))
        for first, second in pairwise(ended):
            self._wait(second.last, Happening(first.last.number, settled=True))
        # Each turn waits for the sub-agent's turns that settled before the next call came.
        for sub in ended:
            latest = -1
            for number, turn in enumerate(sub.family):
                behind = sub.family[number + 1].arrived if number + 1 < len(sub.family) else turn.settled
                begun = sub.turns[0].arrived < turn.settled
                been = [each for each in sub.turns[:-1] if begun and each.settled < behind]
                if been and been[-1].number > latest:
                    latest = been[-1].number
                    self._wait(turn, Happening(latest, settled=True))

    def _find_causes(self, threads: Mapping[Thread, Sequence[Recorded]]) -> None:
        """Add the order in each conversation: an answer comes after its call, and a call after the previous answer."""
        for thread, turns in threads.items():
            launch = self.launches.get(thread)
            before = {Happening(launch.number, settled=True)} if launch is not None else set()
            for each in turns:
                came, settled = Happening(each.number, settled=False), Happening(each.number, settled=True)
                if launch is not None and each is not turns[0] and each.key == turns[0].key:
                    # Another sub-agent with the same task: the record holds both as one sub-agent.
                    again = launch_of(each, self._turns)
                    before = before | {Happening(again.number, settled=True)} if again is not None else before
                self._after[came], self._after[settled] = set(before), {came}
                before = {settled}

    def _family(
        self,
        turns: Sequence[Recorded],
        parents: Mapping[str, str | None],
        relations: Mapping[str, Relation],
    ) -> list[Recorded]:
        """Return the turns of a conversation, and the side calls that wrote its summaries, in order of arrival.

        After a compaction, the conversation begins again with such a summary.
        """
        by_id = {each.turn.id: each for each in self._turns}
        family = list(turns)
        for each in turns:
            relation = relations[each.turn.id]
            if (
                relation.kind == "compaction"
                and relation.turn is not None
                and by_id[relation.turn] not in family
            ):
                aside = by_id[relation.turn]
                family.append(aside)
                self._follow(each, aside)
                if (before := parents[aside.turn.id]) is not None:
                    self._follow(aside, by_id[before])
        return sorted(family, key=lambda each: each.arrived)

    def _follow(self, turn: Recorded, before: Recorded) -> None:
        """Note that the call of `turn` came after the answer of `before`, because the call contains this answer."""
        self._after[Happening(turn.number, settled=False)].add(Happening(before.number, settled=True))

    def _wait(self, turn: Recorded, happening: Happening) -> bool:
        """Make the answer of `turn` wait for the event `happening`, and return True.

        Return False if `turn` cannot wait for this event: the event itself waits for `turn`, or is a disconnect.
        """
        mine = Happening(turn.number, settled=True)
        if happening.settled and self._turns[happening.number].turn.outcome == "abandoned":
            return False
        if happening in self._after[mine]:
            return True
        # The event waits for the turn if the turn is among the happenings that must precede the event.
        seen, ahead = {happening}, [happening]
        while ahead:
            if (at := ahead.pop()) == mine:
                return False
            new = self._after.get(at, set()) - seen
            seen |= new
            ahead += new
        self._after[mine].add(happening)
        self.waits.setdefault(turn.number, []).append(happening)
        return True


def _in_order(sub_agents: Iterable[_SubAgent]) -> list[_SubAgent]:
    """Return the sub-agents in the order in which they ended.

    The recorded times decide, with one exception: two ends may be so close that the agent may have processed the later
    end first. If one call reports both ends, the order of the two reports decides.
    """
    ordered: list[_SubAgent] = []
    for sub in sorted(sub_agents, key=lambda sub: sub.last.settled):
        place = len(ordered)
        while place and (report := sub.report) is not None:
            other = ordered[place - 1]
            is_near = sub.last.settled - other.last.settled < _RIGHT_BEHIND
            if other.report is None or sub.family is not other.family or not is_near:
                break
            if report.place != other.report.place or report >= other.report:
                break
            place -= 1
        ordered.insert(place, sub)
    return ordered
