"""The server of the live view, seen by raw HTTP clients."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio

import triocept
from tests.view.test_recorded import data_of
from tests.view.watching import Agent, Viewer
from triocept import Response, ScriptedModel, ToolCall
from triocept._cli.show import headline
from triocept._cli.stats import Group
from triocept._view.app import ViewApp
from triocept._view.source import Source
from triocept.handlers import Decision, Stream, approve, ask_page, first_of
from triocept.traces import TurnSettled


@asynccontextmanager
async def viewed(**options: Any) -> AsyncIterator[tuple[triocept.Endpoint, Viewer, httpx2.AsyncClient]]:
    with trio.fail_after(20):
        async with httpx2.AsyncClient() as client:
            async with triocept.serve_endpoint(view=True, **options) as endpoint:
                yield endpoint, Viewer(client, endpoint.view_url), client


async def test_without_view_there_is_no_page_and_no_url() -> None:
    async with triocept.serve_endpoint() as endpoint, httpx2.AsyncClient() as client:
        with pytest.raises(RuntimeError, match="view=True"):
            assert endpoint.view_url
        assert (await client.get(f"{endpoint.url}/view/")).status_code == 404


async def test_the_page_and_its_files_need_no_key_and_load_nothing_from_elsewhere() -> None:
    async with viewed() as (endpoint, viewer, client):
        page = await client.get(viewer.base)
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert viewer.key not in page.text
        moved = await client.get(f"{endpoint.url}/view")
        assert (moved.status_code, moved.headers["location"]) == (308, "/view/")
        assert (
            (await client.get(f"{viewer.base}assets/app.js"))
            .headers["content-type"]
            .startswith("text/javascript")
        )
        for name in ("../__init__.py", "%2e%2e/app.py", "..%2f..%2f__init__.py", "index.html"):
            assert (await client.get(f"{viewer.base}assets/{name}")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "snapshot",
        "stream",
        "runs/r/turns",
        "runs/r/messages?numbers=0",
        "runs/r/turns/c/raw",
        "search?q=x",
        "decide",
    ],
)
async def test_no_data_without_the_views_key(path: str) -> None:
    async with viewed() as (endpoint, viewer, client), endpoint.open_rollout(ScriptedModel(["x"])) as rollout:
        url = f"{viewer.base}api/{path}"
        for key in ({}, {"authorization": f"Bearer {rollout.api_key}"}, {"authorization": viewer.key}):
            assert (await client.get(url, headers=key)).status_code == 401
        by_query = await client.get(f"{url}{'&' if '?' in url else '?'}key={viewer.key}")
        assert by_query.status_code == 401
        wrong = Agent(client, rollout)
        wrong.headers = viewer.headers
        await wrong.say("hello")
        assert wrong.status == 401


@pytest.mark.parametrize("path", ["snapshot", "stream", "decide"])
async def test_a_target_that_two_readers_may_split_differently_gets_no_data(path: str) -> None:
    """Behind `http://x`, the encoded path is part of the host for one reader, and the path for another."""
    async with viewed() as (endpoint, _, _):
        target = f"http://x%2Fview%2Fapi%2F{path}%3F/view/"
        for method in ("GET", "POST"):
            stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
            async with stream:
                head = f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{endpoint.port}\r\n"
                head += "content-type: application/json\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
                await stream.send_all(head.encode())
                answer = b"".join([piece async for piece in stream])
            page = answer.startswith(b"HTTP/1.1 200 ") and b"text/html" in answer
            assert page or answer[9:12] in (b"401", b"404", b"405"), answer[:300]


async def test_a_foreign_host_or_origin_gets_nothing() -> None:
    async with viewed() as (endpoint, viewer, client):
        for host in ("evil.example", f"evil.example:{endpoint.port}", "127.0.0.1.evil.example", "", "a@b"):
            for path in ("", "assets/app.js", "api/snapshot"):
                answer = await client.get(f"{viewer.base}{path}", headers=viewer.headers | {"host": host})
                assert answer.status_code in (400, 421), (host, path)
        for host in (f"localhost:{endpoint.port}", "[::1]:80", "127.0.0.1:9999"):
            assert (await viewer.get("snapshot", host=host)).status_code == 200
        for name, value in (
            ("origin", "http://evil.example"),
            ("origin", f"http://localhost:{endpoint.port + 1}"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ):
            answer = await viewer.get("snapshot", **{name: value})
            assert answer.status_code == 403, (name, value)
            assert "access-control-allow-origin" not in answer.headers
        assert (await viewer.get("snapshot", origin=endpoint.url)).status_code == 200
        form = await client.post(f"{viewer.base}api/decide", headers=viewer.headers, data={"id": "q_1"})
        assert form.status_code == 415


async def test_a_call_is_seen_before_it_settles_with_its_words_and_then_as_a_turn() -> None:
    go_on = trio.Event()

    async def answer(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("It ")
            await go_on.wait()
            await stream.send("works.")

    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        assert (await events.until("snapshot"))["rows"] == []
        async with endpoint.open_rollout(answer) as rollout, trio.open_nursery() as nursery:
            agent = Agent(client, rollout)
            nursery.start_soon(lambda: agent.say("hello", stream=True))
            call = await events.until("call")
            assert (call["text"], call["messages"]) == ("hello", [[0, 1]])
            while not (await viewer.json("snapshot"))["calls"][0]["parts"]:
                await trio.sleep(0.01)
            [late] = (await viewer.json("snapshot"))["calls"]
            assert [part["text"] for part in late["parts"]] in (["It "], ["It"], [""])
            detail = await viewer.json(f"runs/{call['run']}/turns/{call['id']}")
            assert detail["call"]["id"] == call["id"]
            go_on.set()
            text = ""
            async for _, name, data in events:
                if name == "more":
                    text += data["text"]
                if name == "turn":
                    break
            assert text == "It works."
            assert (data["outcome"], data["text"], data["answer"]) == ("answered", "It works.", 1)
            known = (await viewer.json(f"runs/{call['run']}/messages?numbers=0-1"))["messages"]
            assert known["0"]["content"] == [{"part": "Text", "text": "hello"}]
            assert known["1"]["content"] == [{"part": "Text", "text": "It works."}]
        row = await events.until("row")
        while row["state"] != "ended":
            row = await events.until("row")
        assert (row["turns"], row["in_flight"], row["ended"]) == (1, 0, "body")


async def test_a_call_in_flight_of_a_sub_agent_that_the_agent_names_is_below_its_parent() -> None:
    go_on = trio.Event()

    async def answer(exchange: triocept.Exchange) -> None:
        await go_on.wait()
        await exchange.respond("done")

    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        async with endpoint.open_rollout(answer) as rollout, trio.open_nursery() as nursery:
            agent = Agent(client, rollout)
            agent.headers |= {"x-claude-code-session-id": "s", "x-claude-code-agent-id": "a"}
            nursery.start_soon(agent.say, "count the files")
            call = await events.until("call")
            expected = {"id": "s/a", "kind": "sub_agent", "parent": "s"}
            assert {name: call["conversation"][name] for name in expected} == expected
            go_on.set()
            turn = await events.until("turn")
            assert {name: turn["conversation"][name] for name in expected} == expected


async def test_a_turn_names_what_is_new_since_the_turn_that_it_continues() -> None:
    async with viewed() as (endpoint, viewer, client):
        async with endpoint.open_rollout(ScriptedModel(["one", "two", "three"])) as rollout:
            agent = Agent(client, rollout)
            await agent.say("a")
            await agent.say("b")
            agent.messages[0] = {"role": "user", "content": "changed"}
            await agent.say("c")
        run = (await viewer.json("snapshot"))["rows"][0]["run"]
        first, second, third = (await viewer.json(f"runs/{run}/turns"))["turns"]
        assert (first["shared"], first["continues"]) == (0, None)
        assert (second["continues"], second["shared"], second["gone"]) == (first["id"], 2, [])
        assert second["messages"] == [[0, 3]]
        assert third["relation"]["kind"] in ("begins", "rewrite", "sub_agent")
        diff = await viewer.json(f"runs/{run}/diff?before={second['id']}&after={third['id']}")
        assert [each["kind"] for each in diff["messages"]] == ["dropped", "added", "added", "added"] or diff[
            "same"
        ]


async def test_a_viewer_that_reconnects_goes_on_or_gets_a_snapshot() -> None:
    async with viewed() as (endpoint, viewer, client), viewer.stream() as other:
        await other.until("snapshot")
        async with endpoint.open_rollout(ScriptedModel(["one", "two"])) as rollout:
            agent = Agent(client, rollout)
            async with viewer.stream() as events:
                await events.until("snapshot")
                await agent.say("a")
                number, _ = await events.seen("row")
            await agent.say("b")
            async with viewer.stream(**{"last-event-id": str(number)}) as events:
                names = []
                async for _, name, each in events:
                    names.append(name)
                    data = each
                    if name == "turn":
                        break
                assert "snapshot" not in names
                assert data["number"] == 1
            for unknown in ("9999", "-1", "x"):
                async with viewer.stream(**{"last-event-id": unknown}) as events:
                    assert (await anext(events))[1] == "snapshot"


async def test_an_endpoint_with_five_viewers_ends_at_once_and_says_goodbye() -> None:
    ended: list[str] = []

    async def watch(viewer: Viewer, task_status: trio.TaskStatus[None]) -> None:
        async with viewer.stream() as events:
            await events.until("snapshot")
            task_status.started()
            await events.until("bye")
            ended.append("bye")

    with trio.fail_after(50):
        async with httpx2.AsyncClient() as client, trio.open_nursery() as nursery:
            async with triocept.serve_endpoint(view=True, grace=40) as endpoint:
                for _ in range(5):
                    await nursery.start(watch, Viewer(client, endpoint.view_url))
                began = trio.current_time()
            assert trio.current_time() - began < 30
    assert ended == ["bye"] * 5


async def test_a_slow_viewer_costs_the_others_nothing_and_does_not_delay_the_end() -> None:
    words = "word " * 2_000

    async def answer(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            for _ in range(2_000):
                await stream.send(words)

    with trio.fail_after(60):
        async with httpx2.AsyncClient() as client:
            async with triocept.serve_endpoint(view=True, grace=40) as endpoint:
                viewer = Viewer(client, endpoint.view_url)
                slow = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                head = f"GET /view/api/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {viewer.key}\r\n\r\n"
                await slow.send_all(head.encode())
                assert await slow.receive_some(1)
                async with viewer.stream() as events, trio.open_nursery() as nursery:
                    await events.until("snapshot")
                    async with endpoint.open_rollout(answer) as rollout:
                        nursery.start_soon(lambda: Agent(client, rollout).say("go", stream=True))
                        got = 0
                        async for _, name, data in events:
                            got += len(data["text"]) if name == "more" else 0
                            assert name != "snapshot"
                            if name == "turn":
                                break
                    assert got == len(words) * 2_000
                began = trio.current_time()
            assert trio.current_time() - began < 30
        await slow.aclose()


@pytest.mark.parametrize(
    ("body", "kind", "agent_gets"),
    [
        ({"kind": "approve", "by": "Ann"}, "approve", "ls"),
        ({"kind": "modify", "arguments": '{"command": "ls -l"}'}, "modify", "ls -l"),
        ({"kind": "answer", "reason": "no tools now"}, "answer", "no tools now"),
        ({"kind": "reject", "reason": "not here"}, "reject", "then not"),
    ],
)
async def test_a_person_decides_on_the_page(body: dict[str, str], kind: str, agent_gets: str) -> None:
    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        model = approve(ScriptedModel([ToolCall.of("bash", command="ls"), "then not"]), {"bash": ask_page})
        async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
            answers: list[Any] = []

            async def ask() -> None:
                answers.append(await Agent(client, rollout).say("go"))

            nursery.start_soon(ask)
            asked = await events.until("asked")
            while not asked["here"]:
                asked = await events.until("asked")
            assert (asked["tool"], asked["arguments"]) == ("bash", '{"command":"ls"}')
            assert (await viewer.decide(id=asked["id"], **body)).json() == {"decided": True}
            decided = await events.until("decided")
            assert (decided["id"], decided["decision"]["kind"]) == (asked["id"], kind)
            assert decided["decision"]["by"] == ("page: Ann" if "by" in body else "page")
        assert agent_gets in str(answers)
        [turn] = rollout.trace
        assert [each.by for each in turn.decisions] == [decided["decision"]["by"]]
        assert (await viewer.json("snapshot"))["waiting"] == []


async def test_a_rejected_answer_counts_in_all_sums_alike_and_the_time_for_decisions_stands_apart() -> None:
    prices = {"m": triocept.Price(input=1, output=1)}
    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        model = approve(
            ScriptedModel([ToolCall.of("bash", command="ls"), ToolCall.of("bash", command="pwd"), "done"]),
            {"bash": ask_page},
        )
        limits = triocept.Limits(cost=9, prices=prices)
        async with endpoint.open_rollout(model, limits=limits) as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(Agent(client, rollout).say, "go")
            for count in (0, 1):
                asked = await events.until("asked")
                while not asked["here"]:
                    asked = await events.until("asked")
                [call] = (await viewer.json("snapshot"))["calls"]
                assert [each["kind"] for each in call["decisions"]] == ["reject"] * count
                await trio.sleep(0.05)
                await viewer.decide(id=asked["id"], kind="reject", by=" Ann ")
        row = next(row for row in (await viewer.json("snapshot"))["rows"])
        [shown] = (await viewer.json(f"runs/{row['run']}/turns"))["turns"]
    [turn] = rollout.trace
    assert [each.by for each in turn.decisions] == ["page: Ann"] * 2
    usage, counts = rollout.trace.usage, Group()
    counts.add(turn)
    assert len(turn.drafts) == 2
    for name in ("input_tokens", "output_tokens"):
        total = getattr(usage, name)
        assert total > getattr(turn.response and turn.response.usage, name)
        assert [row[name], shown["usage"][name], counts.document()[name]] == [total] * 3
    head = "".join(each if isinstance(each, str) else each[0] for each in headline(rollout.trace))
    assert f"{usage.input_tokens}~ in {usage.output_tokens}~ out" in head
    assert row["cost"] == shown["cost"] == rollout.trace.cost
    event = TurnSettled(rollout="r", run="x", number=0, at=0.0, clock=0.0, turn=turn).brief()
    assert event["waited"] == row["waited"]
    assert row["waited"] == shown["waited"] == sum(each.seconds for each in turn.decisions) >= 0.1
    assert row["busy"] == pytest.approx(turn.duration - row["waited"])
    assert counts.latency.max == row["busy"]


async def test_a_rollout_is_titled_by_its_prompt_or_its_own_id_and_its_agent_keeps_its_name() -> None:
    async with viewed() as (endpoint, viewer, client):

        async def row() -> Any:
            return next(row for row in (await viewer.json("snapshot"))["rows"] if row["run"] == run)

        async with endpoint.open_rollout(ScriptedModel(["a", "b", "c"])) as rollout:
            run, agent = rollout.trace.run, Agent(client, rollout)
            assert (await row())["title"] == ""
            agent.headers["user-agent"] = "first/1.0"
            agent.messages = [{"role": "user", "content": "<system-reminder>Be good.</system-reminder>"}]
            await agent.say("Fix\n the  bug.")
            assert [(await row())[name] for name in ("title", "agent")] == ["Fix the bug.", "first/1.0"]
            agent.headers["user-agent"] = "other/2.0"
            await agent.say("And test it.")
            assert [(await row())[name] for name in ("title", "agent")] == ["Fix the bug.", "first/1.0"]
        for options, title in (
            ({"id": "mine"}, "mine"),
            ({"metadata": {"fleet": {"task": "t" * 9_999, "sample": 2}}}, "t" * 200),
            ({"metadata": {"fleet": {"task": "t", "sample": 2}}}, "t/2"),
            ({}, "<div> is not closed."),
        ):
            async with endpoint.open_rollout(ScriptedModel(["a"]), **options) as rollout:
                run = rollout.trace.run
                await Agent(client, rollout).say("<div> is not closed.")
                assert (await row())["title"] == title


async def test_the_first_of_two_people_wins_and_the_other_is_told() -> None:
    async with viewed() as (endpoint, viewer, client):
        model = approve(ScriptedModel([ToolCall.of("bash", command="ls")]), {"bash": ask_page})
        async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(Agent(client, rollout).say, "go")
            while not (waiting := (await viewer.json("snapshot"))["waiting"]):
                await trio.sleep(0.01)
            id_ = waiting[0]["id"]
            for wrong in (
                {"kind": "modify", "arguments": "[1]"},
                {"kind": "modify", "arguments": "{"},
                {"kind": "guess"},
                {"kind": "approve", "by": 7},
            ):
                assert (await viewer.decide(id=id_, **wrong)).status_code == 400, wrong
            assert (await viewer.decide(id=id_, kind="approve", by="Ann")).status_code == 200
            late = await viewer.decide(id=id_, kind="reject", by="Bob")
            assert late.status_code == 409
            assert (await viewer.decide(id="q_99", kind="approve")).status_code == 409
        [turn] = rollout.trace
        assert [(each.kind, each.by) for each in turn.decisions] == [("approve", "page: Ann")]


@pytest.mark.parametrize("first", ["ls", "rm -rf /"])
async def test_a_decision_belongs_to_the_call_that_is_shown_even_if_two_calls_have_one_id(first: str) -> None:
    calls = [ToolCall("bash", json.dumps({"command": text}), id="same") for text in ("ls", "rm -rf /")]
    second_asked = trio.Event()

    async def ask(call: ToolCall, exchange: triocept.Exchange) -> Decision:
        if first in call.arguments:  # the other call's question comes first
            await second_asked.wait()
        second_asked.set()
        return await ask_page(call, exchange)

    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        model = approve(ScriptedModel([Response.of(*calls), "end"]), {"bash": ask})
        async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(Agent(client, rollout).say, "go")
            asked: dict[str, Any] = {}
            while len(asked) < 2 or not all(each["here"] for each in asked.values()):
                row = await events.until("asked")
                asked[row["arguments"]] = row
            safe, wrong = (asked[call.arguments]["id"] for call in calls)
            assert (await viewer.decide(id=wrong, kind="reject", reason="no", by="Bob")).status_code == 200
            assert (await events.until("decided"))["id"] == wrong
            assert (await viewer.decide(id=safe, kind="approve", by="Ann")).status_code == 200
            assert (await events.until("decided"))["id"] == safe
        assert [(each.kind, each.by) for each in rollout.trace[0].decisions] == [
            ("approve", "page: Ann"),
            ("reject", "page: Bob"),
        ]


async def test_a_second_decision_before_the_policy_has_returned_is_told_the_first() -> None:
    decided, go_on = trio.Event(), trio.Event()

    async def ask(call: ToolCall, exchange: triocept.Exchange) -> Decision:
        decision = await ask_page(call, exchange)
        decided.set()
        await go_on.wait()
        return decision

    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        model = approve(ScriptedModel([ToolCall.of("bash", command="ls")]), {"bash": ask})
        async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(Agent(client, rollout).say, "go")
            while not (asked := await events.until("asked"))["here"]:
                pass
            assert (await viewer.decide(id=asked["id"], kind="approve", by="Ann")).status_code == 200
            await decided.wait()
            late = await viewer.decide(id=asked["id"], kind="reject", by="Bob")
            assert late.status_code == 409
            assert (late.json()["decision"]["kind"], late.json()["decision"]["by"]) == (
                "approve",
                "page: Ann",
            )
            go_on.set()
        assert [each.by for each in rollout.trace[0].decisions] == ["page: Ann"]


async def test_the_mark_of_a_key_is_not_sent_in_place_of_the_key_and_is_sent_where_it_was_shown() -> None:
    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:

        async def ask(*texts: str) -> list[str | None]:
            calls = [ToolCall.of("bash", command=text) for text in texts]
            model = approve(ScriptedModel([*calls, "end"]), {"bash": ask_page})
            async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
                nursery.start_soon(Agent(client, rollout).say, "go")
                while not (asked := await events.until("asked"))["here"]:
                    pass
                changed = asked["arguments"].replace("curl", "wget")
                refused = await viewer.decide(id=asked["id"], kind="modify", arguments=changed)
                if refused.status_code != 200:
                    assert refused.status_code == 400
                    assert "still contains [redacted]" in refused.json()["error"]["message"]
                    whole = '{"command":"wget -u mine"}'
                    assert (
                        await viewer.decide(id=asked["id"], kind="modify", arguments=whole)
                    ).status_code == 200
            return [each.arguments for each in rollout.trace[0].decisions]

        assert await ask(f"curl -u {viewer.key}") == ['{"command":"wget -u mine"}']
        assert await ask("curl -u [redacted]") == ['{"command":"wget -u [redacted]"}']


async def test_a_question_is_withdrawn_when_the_agent_leaves_and_when_the_time_is_over() -> None:
    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        call = ToolCall.of("bash", command="ls")
        model = approve(ScriptedModel([call, call, "end"]), {"bash": ask_page})
        async with endpoint.open_rollout(model) as rollout:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Agent(client, rollout).say, "go")
                asked = await events.until("asked")
                nursery.cancel_scope.cancel()
            gone = await events.until("decided")
            assert (gone["id"], gone["decision"]) == (asked["id"], None)
            assert (await viewer.decide(id=asked["id"], kind="approve")).status_code == 409
        timed = approve(ScriptedModel([call, "end"]), {"bash": ask_page}, timeout=0.05)
        async with endpoint.open_rollout(timed) as rollout:
            await Agent(client, rollout).say("go")
            decided = await events.until("decided")
            assert (decided["decision"]["kind"], decided["decision"]["by"]) == ("reject", "timeout")


async def test_a_page_that_goes_away_leaves_the_question_to_the_next() -> None:
    async with viewed() as (endpoint, viewer, client):
        model = approve(ScriptedModel([ToolCall.of("bash", command="ls")]), {"bash": ask_page})
        async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
            agent = Agent(client, rollout)
            nursery.start_soon(agent.say, "go")
            async with viewer.stream() as events:
                snapshot = await events.until("snapshot")
                asked = snapshot["waiting"][0] if snapshot["waiting"] else await events.until("asked")
            async with viewer.stream() as events:
                [again] = (await events.until("snapshot"))["waiting"]
            assert again["id"] == asked["id"]
            assert (await viewer.decide(id=again["id"], kind="approve")).status_code == 200
        assert agent.status == 200


async def test_a_page_and_another_policy_are_asked_at_once() -> None:
    other, cancelled = trio.Event(), trio.Event()

    async def ask_elsewhere(call: ToolCall, exchange: triocept.Exchange) -> Decision:
        try:
            await other.wait()
        except trio.Cancelled:
            cancelled.set()
            raise
        return Decision.reject("elsewhere")

    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        call = ToolCall.of("bash", command="ls")
        policy = first_of(ask_elsewhere, ask_page, lambda call, exchange: Decision.escalate())
        model = approve(ScriptedModel([call, call, "end"]), {"bash": policy})
        async with endpoint.open_rollout(model) as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(Agent(client, rollout).say, "go")
            asked = await events.until("asked")
            while not asked["here"]:
                asked = await events.until("asked")
            await viewer.decide(id=asked["id"], kind="approve", by="Ann")
            assert (await events.until("decided"))["decision"]["by"] == "page: Ann"
            await cancelled.wait()
            other.set()
            await Agent(client, rollout).say("again")
            assert (await events.until("decided"))["decision"]["by"] == "ask_elsewhere"


async def test_ask_page_without_a_page_is_an_error_that_says_what_to_do() -> None:
    model = approve(ScriptedModel([ToolCall.of("bash", command="ls")]), {"bash": ask_page})
    async with httpx2.AsyncClient() as client, triocept.serve_endpoint() as endpoint:
        with pytest.raises(RuntimeError, match="view=True to serve_endpoint"):
            async with endpoint.open_rollout(model) as rollout:
                await Agent(client, rollout).say("go")
                await trio.sleep_forever()


async def test_the_key_of_a_rollout_is_nowhere_in_the_view() -> None:
    async with viewed() as (endpoint, viewer, client), viewer.stream() as events:
        async with endpoint.open_rollout(ScriptedModel([Stream("you said it")])) as rollout:
            key = rollout.api_key
            await Agent(client, rollout).say(f"my env: OPENAI_API_KEY={key} {viewer.key}", stream=True)
            seen = ""
            async for _, name, data in events:
                seen += str(data)
                if name == "turn":
                    break
            run, id_ = data["run"], data["id"]
            for path in (f"runs/{run}/turns", f"runs/{run}/turns/{id_}", f"runs/{run}/turns/{id_}/raw"):
                seen += (await viewer.get(path)).text
            seen += (await viewer.get(f"runs/{run}/messages?numbers=0-9")).text + (
                await viewer.get("search?q=env")
            ).text
    assert "my env" in seen
    assert key not in seen
    assert viewer.key not in seen


async def test_a_run_that_has_not_ended_is_saved_as_one_file_that_names_this() -> None:
    async with viewed() as (endpoint, viewer, client), endpoint.open_rollout(ScriptedModel(["x"])) as rollout:
        await Agent(client, rollout).say("hello")
        run = (await viewer.json("snapshot"))["rows"][0]["run"]
        file = await viewer.get(f"runs/{run}/file")
        assert file.headers["content-type"] == "application/octet-stream"  # no page in this origin
        document = data_of(file.content)
        assert [turn["text"] for turn in document["runs"][run]["turns"]] == ["x"]
        assert document["snapshot"]["notes"] == ["The rollout had not ended when this file was saved."]


async def test_unknown_runs_calls_and_numbers_are_errors_and_not_failures() -> None:
    async with viewed() as (endpoint, viewer, client), endpoint.open_rollout(ScriptedModel(["x"])) as rollout:
        await Agent(client, rollout).say("hello")
        run = (await viewer.json("snapshot"))["rows"][0]["run"]
        for path, status in (
            ("runs/none/turns", 404),
            (f"runs/{run}/turns/none", 404),
            (f"runs/{run}/turns/none/raw", 404),
            ("runs/none/file", 404),
            (f"runs/{run}/tools/9", 404),
            (f"runs/{run}/diff?before=a&after=b", 404),
            (f"runs/{run}/messages?numbers=0-600", 400),
            (f"runs/{run}/messages?numbers=x", 400),
            (f"runs/{run}/messages", 400),
            ("search", 400),
            (f"search?q={'x' * 501}", 400),
            ("compare?a=x&b=y", 404),
            ("nothing", 404),
        ):
            answer = await viewer.get(path)
            assert answer.status_code == status, path
            assert answer.json()["error"]["message"]
        assert (
            await viewer.client.get(f"{viewer.base}api/decide", headers=viewer.headers)
        ).status_code == 405
        big = await viewer.client.post(
            f"{viewer.base}api/decide",
            headers=viewer.headers | {"content-type": "application/json"},
            content=b"[" * (17 * 1024 * 1024),
        )
        assert big.status_code == 413
        deep = await viewer.client.post(
            f"{viewer.base}api/decide",
            headers=viewer.headers | {"content-type": "application/json"},
            content=b"[" * 100_000,
        )
        assert deep.status_code == 400


async def test_a_page_that_other_machines_can_open_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with triocept.serve_endpoint(view=True, host="0.0.0.0"):
        assert [record.name for record in caplog.records] == ["triocept.view"]
    caplog.clear()
    async with triocept.serve_endpoint(view=True):
        assert caplog.records == []


async def test_ask_page_outside_a_policy_is_an_error_and_does_not_wait() -> None:
    async def handler(exchange: triocept.Exchange) -> str:
        await ask_page(ToolCall.of("bash", command="ls"), exchange)
        raise AssertionError

    async with viewed() as (endpoint, _, client):
        with pytest.raises(RuntimeError, match="not called as a policy"):
            async with endpoint.open_rollout(handler) as rollout:
                await Agent(client, rollout).say("go")
                await trio.sleep_forever()


async def test_without_the_key_the_application_itself_serves_only_the_page() -> None:
    view = ViewApp(Source("runs"), set, "http")
    client = view._quart.test_client()  # a request that has not come through the endpoint's checks
    key = {"authorization": f"Bearer {view.key}"}
    for path, with_key in (("snapshot", 200), ("runs/r/turns", 404), ("search?q=x", 200), ("stream", 200)):
        for headers in ({}, {"authorization": "Bearer x"}):
            assert (await client.get(f"/view/api/{path}", headers=headers)).status_code == 401, path
        assert (await client.get(f"/view/api/{path}", headers=key)).status_code == with_key, path
    assert (await client.post("/view/api/decide", json={})).status_code == 401
    for path in ("", "assets/app.js"):
        assert (await client.get(f"/view/{path}")).status_code == 200, path


async def test_a_person_who_leaves_while_sending_a_decision_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with viewed() as (_, viewer, _):
        port = int(viewer.base.split(":")[2].split("/")[0])
        socket_stream = await trio.open_tcp_stream("127.0.0.1", port)
        head = (
            f"POST /view/api/decide HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {viewer.key}\r\n"
            "content-type: application/json\r\ncontent-length: 100\r\n\r\n"
        )
        await socket_stream.send_all(head.encode() + b'{"id":')
        await viewer.json("snapshot")  # so that the body is being read
        await socket_stream.aclose()
        for _ in range(3):
            await viewer.json("snapshot")
    assert [record.getMessage() for record in caplog.records] == []
