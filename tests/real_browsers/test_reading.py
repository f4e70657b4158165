"""A run that is read on the page: its conversations, times, costs and requests; filters; and accessibility."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from playwright.sync_api import Page, expect

import triocept
from tests.exports.sample import sample
from tests.real_browsers.agents import Agent
from tests.real_browsers.browsing import CHROMIUM, Tab, browse
from tests.real_browsers.test_page import press, turns
from triocept import Limits, Price, ScriptedModel, ToolCall
from triocept._view.recorded import serve_source
from triocept._view.source import Source
from triocept.exports import html_page
from triocept.handlers import Decision, approve, ask_page

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(CHROMIUM is None, reason="this machine has no chromium (apt-get install chromium)"),
]
PRICES = {"claude-*": Price(input=1_000, output=0)}


@asynccontextmanager
async def with_a_sub_agent() -> AsyncIterator[tuple[triocept.Endpoint, httpx2.AsyncClient, triocept.Rollout]]:
    """Serve a rollout of four turns: the agent begins a sub-agent, which makes two calls, and goes on."""
    replies = [
        ToolCall.of("Task", prompt="Find the tests."),
        ToolCall.of("Bash", command="ls tests"),
        "They are in tests.",
        "All done.",
    ]
    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            limits = Limits(prices=PRICES)
            async with endpoint.open_rollout(ScriptedModel(replies), limits=limits) as rollout:
                agent = Agent(client, rollout)
                task = await agent.call("Fix the bug.")
                other = Agent(client, rollout, system="You find files.")
                other.result(await other.call("Find the tests."), "test_a.py")
                await other.call()
                agent.result(task, "They are in tests.")
                await agent.call()
                yield endpoint, client, rollout


async def test_sub_agents_are_a_tree_that_chooses_their_turns() -> None:
    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        rows = page.locator(".outline-row")
        expect(rows).to_have_count(2)
        expect(rows.nth(0)).to_contain_text("2 turns")
        expect(rows.nth(1)).to_contain_text("↳")
        expect(rows.nth(1)).to_contain_text("2 turns")
        assert indent(page, 1) > indent(page, 0)
        turns(page, 0)
        page.get_by_role("button", name="Sub-agent:").click()
        expect(page.locator(".detail h2")).to_have_text("Turn 1")
        expect(page.locator(".turns [role=option]")).to_have_count(2)
        expect(rows.nth(1)).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Escape")
        expect(page.locator(".turns [role=option]")).to_have_count(4)
        rows.nth(0).click()
        expect(page.locator(".detail h2")).to_have_text("Turn 3")
        expect(page.locator(".turns [role=option]")).to_have_count(2)
        rows.nth(0).click()
        expect(page.locator(".turns [role=option]")).to_have_count(4)

    async with with_a_sub_agent() as (endpoint, _, _):
        await browse(partial(look, url=endpoint.view_url))


async def test_a_sub_agent_of_a_sub_agent_stands_below_it() -> None:
    async def begin(text: str, depth: int) -> None:
        """Make the calls of an agent that begins a further one, until the third."""
        agent = Agent(client, rollout, system=f"You are number {depth}.")
        if depth < 2:
            task = await agent.call(text)
            await begin(f"Task {depth}.", depth + 1)
            agent.result(task, "done")
        await agent.call(*([] if depth < 2 else [text]))

    def look(tab: Tab) -> None:
        page = tab.page
        page.goto(endpoint.view_url)
        expect(page.locator(".outline-row")).to_have_count(3)
        assert indent(page, 0) < indent(page, 1) < indent(page, 2)
        page.locator(".outline-row").nth(2).click()
        expect(page.locator(".detail h2")).to_have_text("Turn 2")

    replies = [
        *(ToolCall.of("Task", prompt=f"Task {depth}.") for depth in range(2)),
        "read",
        "found",
        "fixed",
    ]
    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            async with endpoint.open_rollout(ScriptedModel(replies)) as rollout:
                await begin("Fix the bug.", 0)
            await browse(look)


def indent(page: Page, row: int) -> float:
    return float(
        page.locator(".outline-row").nth(row).evaluate("row => parseFloat(getComputedStyle(row).paddingLeft)")
    )


async def test_a_result_that_equals_an_earlier_one_is_shown_with_its_own_call() -> None:
    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        turns(page, 2)
        expect(page.locator(".detail .call", has=page.locator(".result")).first).to_contain_text("touch b")
        expect(page.locator(".detail")).not_to_contain_text("touch a")

    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            replies = [*(ToolCall.of("Bash", command=f"touch {name}") for name in "ab"), "done"]
            async with endpoint.open_rollout(ScriptedModel(replies)) as rollout:
                agent = Agent(client, rollout)
                answer = await agent.call("Make two files.")
                for _ in range(2):
                    agent.result(answer, "no output")
                    answer = await agent.call()
            await browse(partial(look, url=endpoint.view_url))


@pytest.mark.parametrize("way", ["served", "as a file"])
async def test_two_runs_stand_side_by_side_with_the_calls_that_differ(way: str, tmp_path: Path) -> None:
    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        page.locator(".runs [role=option]", has_text="one").first.click()
        page.get_by_role("button", name="About this rollout").click()
        page.get_by_label("Compare with").select_option(label="two · claude-sonnet-4-5")
        rows = page.locator(".compare tbody tr")
        expect(rows).to_have_count(4)
        expect(page.locator(".compare tbody tr.same")).to_have_count(2)
        changed = page.locator(".compare tbody tr.changed")
        expect(changed.locator("td").first).to_contain_text('{"command":"ls"}')
        expect(changed.locator("td").last).to_contain_text('{"command":"pwd"}')
        expect(page.locator(".compare tbody tr.only_b")).to_contain_text("more")
        assert "compare=" in page.url
        changed.get_by_role("button").last.click()
        expect(page.locator(".detail h2")).to_have_text("Turn 1")
        expect(page.locator(".detail")).to_contain_text("pwd")

    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            traces = []
            for name, command, rest in (("one", "ls", ["done"]), ("two", "pwd", ["done", "more"])):
                calls = [ToolCall.of("Bash", command=text) for text in ("cat x", command)]
                async with endpoint.open_rollout(ScriptedModel([*calls, *rest]), id=name) as rollout:
                    agent = Agent(client, rollout)
                    for _ in calls:
                        agent.result(await agent.call("Go."), "ok")
                    for _ in rest:
                        await agent.call("Go on.")
                traces.append(rollout.trace)
            path = tmp_path / "runs.html"
            path.write_bytes(html_page(traces))
            await browse(partial(look, url=endpoint.view_url if way == "served" else path.as_uri()))


async def test_each_item_of_a_run_of_all_kinds_can_be_opened_and_unfolded(tmp_path: Path) -> None:
    def look(tab: Tab, url: str) -> list[str]:
        page = tab.page
        page.goto(url)
        items = page.locator(".turns [role=option]")
        expect(items).to_have_count(9)
        titles = []
        for number in range(9):
            items.nth(number).click()
            name = items.nth(number).locator(".number").inner_text()
            expect(page.locator(".detail h2")).to_have_text(
                f"Turn {name}" if name.isdecimal() else "tool lookup"
            )
            titles.append(page.locator(".detail h2").inner_text())
            for _ in range(3):  # folds in folds
                page.locator(".detail .fold-button[aria-expanded=false]").evaluate_all(
                    "all => all.map((each) => each.click())"
                )
                expect(page.locator(".detail")).not_to_contain_text("loading …")
            expect(page.locator(".detail .fold-button[aria-expanded=false]")).to_have_count(0)
            expect(page.locator(".detail p.bad")).to_have_count(1 if "Turn 3" in titles[-1] else 0)
        return titles

    path = tmp_path / "run.html"
    path.write_bytes(html_page([sample()]))
    source = Source("traces.jsonl")
    source.add(sample())
    with trio.fail_after(200):
        async with serve_source(source, host="127.0.0.1", port=0) as url:
            served = await browse(partial(look, url=url))
        assert served == await browse(partial(look, url=path.as_uri()))
    assert sorted(served) == sorted([*(f"Turn {number}" for number in range(8)), "tool lookup"])


async def test_bars_of_time_are_in_order_and_mark_the_first_token() -> None:
    async def answer(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            await trio.sleep(0.1)
            await stream.send("first ")
            await trio.sleep(0.1)
            await stream.send("last")

    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        expect(page.locator(".track .time")).to_have_count(3)
        bars: list[dict[str, float]] = page.locator(".track .time").evaluate_all(
            """bars => bars.map((bar) => { const {left, right} = bar.getBoundingClientRect();
               return {left, right, first: parseFloat(bar.style.getPropertyValue("--first"))}; })"""
        )
        for bar, after in pairwise(bars):
            assert bar["left"] < bar["right"] <= after["left"] + 2
        assert all(20 < bar["first"] < 80 for bar in bars), bars
        for row in range(3):
            title = page.locator(".track").nth(row).get_attribute("title")
            assert re.fullmatch(r"[\d.]+ m?s, first token after [\d.]+ m?s", title or ""), title

    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                for _ in range(3):
                    await Agent(client, rollout).call("Go.", stream=True)
            await browse(partial(look, url=endpoint.view_url))


async def test_the_bar_of_a_turn_shows_the_time_for_decisions_apart() -> None:
    async def decide(call: ToolCall, exchange: triocept.Exchange) -> Decision:
        await trio.sleep(0.3)
        return Decision.approve()

    def look(tab: Tab, url: str) -> None:
        tab.page.goto(url)
        bars = tab.page.locator(".track .time")
        expect(bars).to_have_count(2)
        waits = bars.evaluate_all(
            "(bars) => bars.map((bar) => parseFloat(bar.style.getPropertyValue('--waits')))"
        )
        assert waits[0] < 50, waits
        assert waits[1] == 100, waits

    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            model = approve(ScriptedModel([ToolCall.of("Bash", command="ls"), "end"]), {"Bash": decide})
            async with endpoint.open_rollout(model) as rollout:
                agent = Agent(client, rollout)
                agent.result(await agent.call("Go."), "a.py")
                await agent.call()
            await browse(partial(look, url=endpoint.view_url))


async def test_costs_are_shown_for_turns_rollouts_and_all_and_only_where_there_are_prices() -> None:
    def look(tab: Tab, url: str, cost: float) -> None:
        page = tab.page
        page.goto(url)
        expect(page.locator(".runs [role=option]")).to_have_count(2)
        with_prices = page.locator(".runs [role=option]", has_text="4 turns")
        without = page.locator(".runs [role=option]", has_text="1 turn").last
        expect(with_prices).to_contain_text(f"${cost:.2f}")
        expect(without).not_to_contain_text("$")
        expect(page.locator(".totals")).to_contain_text(f"${cost:.2f}")
        with_prices.click()
        expect(page.locator(".turns [role=option]")).to_have_count(4)
        shown = page.locator(".turns [role=option]").all_inner_texts()
        costs = [float(found[1]) for text in shown if (found := re.search(r"\$([\d.]+)", text))]
        assert len(costs) == 4
        assert sum(costs) == pytest.approx(cost, abs=0.02)

    async with with_a_sub_agent() as (endpoint, client, rollout):
        assert rollout.trace.cost is not None
        async with endpoint.open_rollout(ScriptedModel(["hello"])) as other:
            await Agent(client, other).call("Hi.")
        await browse(partial(look, url=endpoint.view_url, cost=rollout.trace.cost))


@pytest.mark.skipif(shutil.which("curl") is None, reason="this machine has no curl")
async def test_a_request_that_is_copied_as_curl_has_no_key_and_makes_the_same_call_again() -> None:
    def look(tab: Tab, url: str) -> str:
        page = tab.page
        tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(url)
        turns(page, 0)
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.locator(".toasts")).to_contain_text("was copied")
        return str(page.evaluate("navigator.clipboard.readText()"))

    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            async with endpoint.open_rollout(ScriptedModel(["first", 'it\'s "again"'])) as rollout:
                await Agent(client, rollout).call('It\'s `$HOME` \\ "quoted"\nin two lines.')
                command = await browse(partial(look, url=endpoint.view_url))
                assert "$KEY" in command
                assert rollout.api_key not in command
                done = await trio.run_process(
                    ["bash", "-c", command],
                    capture_stdout=True,
                    stderr=subprocess.DEVNULL,
                    env={"KEY": rollout.api_key},
                )
            assert json.loads(done.stdout)["content"][0]["text"] == 'it\'s "again"'
            first, second = rollout.trace
            assert first.request == second.request


async def test_filters_choose_rollouts_and_turns() -> None:
    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        rollouts, runs = page.get_by_label("Filter rollouts"), page.locator(".runs [role=option]")
        expect(runs).to_have_count(2)
        rollouts.fill("my-task")
        expect(runs).to_contain_text(["my-task"])
        rollouts.fill("alpha")
        expect(runs).to_have_count(1)
        expect(page.locator(".runs h2")).to_contain_text("1 of 2")
        runs.click()
        shown = page.locator(".turns [role=option]")
        expect(shown).to_have_count(3)
        page.get_by_label("Filter turns").fill("two")
        expect(shown).to_have_count(1)
        expect(page.locator(".turns h2")).to_contain_text("1 of 3")
        page.get_by_label("Filter turns").fill("failed")
        expect(shown).to_have_count(0)
        expect(page.locator(".turns")).to_contain_text("No turn matches")
        rollouts.fill("gamma")
        expect(page.locator(".runs")).to_contain_text("No rollout matches")

    with trio.fail_after(200):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            for name, count in (("alpha", 3), ("beta", 1)):
                model = ScriptedModel([f"answer {word}" for word in ("one", "two", "three")[:count]])
                metadata = {"fleet": {"task": "my-task"}} if name == "beta" else {}
                async with endpoint.open_rollout(model, id=name, metadata=metadata) as rollout:
                    agent = Agent(client, rollout)
                    for number in range(count):
                        await agent.call(f"Question {number}.")
            await browse(partial(look, url=endpoint.view_url))


async def test_axe_finds_nothing_serious_on_the_page_in_light_and_dark_and_with_a_question(axe: str) -> None:
    def violations(page: Page) -> list[str]:
        page.evaluate(axe)
        found: list[dict[str, Any]] = page.evaluate("axe.run(document).then((found) => found.violations)")
        return [
            f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes'][:3]]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        expect(page.locator("section.waiting")).to_be_visible()
        assert violations(page) == []
        press(page, "e")
        assert violations(page) == []
        page.get_by_role("button", name="Back", exact=True).click()
        page.locator("section.waiting").get_by_role("button", name="Approve").click()
        expect(page.locator("section.waiting")).to_have_count(0)
        page.locator(".runs [role=option]", has_text="4 turns").click()
        turns(page, 2)
        for fold in ("System prompt", "Tools", "Earlier messages", "Settings", "Raw", "About this rollout"):
            page.get_by_role("button", name=fold).first.click()
        expect(page.locator(".detail")).to_contain_text('"outcome": "answered"')
        assert violations(page) == []
        page.keyboard.press("?")
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.locator("#search").fill("tests")
        page.keyboard.press("Enter")
        expect(page.locator(".hit").first).to_be_visible()
        assert violations(page) == []

    for scheme in ("light", "dark"):
        async with with_a_sub_agent() as (endpoint, client, _), trio.open_nursery() as nursery:
            model = approve(ScriptedModel([ToolCall.of("Bash", command="rm -rf build")]), {"Bash": ask_page})
            async with endpoint.open_rollout(model) as rollout:
                nursery.start_soon(Agent(client, rollout).call, "Clean up.")
                await browse(partial(look, url=endpoint.view_url), color_scheme=scheme, bypass_csp=True)
