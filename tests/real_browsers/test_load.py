"""The page with 100 live rollouts, and with 1,000 turns: CPU times of its thread, which other work does not change."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import httpx2
import pytest
import trio
from playwright.sync_api import Page, expect

import triocept
from tests.real_browsers.agents import Agent
from tests.real_browsers.browsing import CHROMIUM, Tab, browse
from triocept import ScriptedModel

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="this machine has no chromium (apt-get install chromium)"),
]


def measure(page: Page, act: Callable[[], object]) -> tuple[float, float]:
    """Return the longest task of the page's thread, and all of them together, in seconds of CPU."""
    browser = page.context.browser
    assert browser is not None
    browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline", "__metadata"])
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        each.get("tdur", 0) / 1e6
        for each in events
        if each["name"].endswith("RunTask") and (each["pid"], each["tid"]) in main
    ]
    return max(tasks), sum(tasks)


async def test_a_hundred_live_rollouts_do_not_stall_the_page() -> None:
    async def tell(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            for number in range(10_000):
                await stream.send(f"word{number} ")
                await trio.sleep(0.1)

    async def run(endpoint: triocept.Endpoint, client: httpx2.AsyncClient) -> None:
        async with endpoint.open_rollout(tell) as rollout:
            await Agent(client, rollout).call("Tell a story.", stream=True)

    def look(tab: Tab, url: str) -> tuple[float, float]:
        page = tab.page
        page.goto(url)
        expect(page.locator(".totals")).to_contain_text("100 in flight", timeout=60_000)
        expect(page.locator(".message.live")).to_contain_text("word")
        assert page.locator(".runs [role=option]").count() < 30
        return measure(page, lambda: page.wait_for_timeout(5_000))

    with trio.fail_after(200):
        limits = httpx2.Limits(max_connections=200)
        async with (
            httpx2.AsyncClient(limits=limits) as client,
            triocept.serve_endpoint(view=True) as endpoint,
        ):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(run, endpoint, client)
                longest, busy = await browse(partial(look, url=endpoint.view_url))
                nursery.cancel_scope.cancel()
    print(f"100 live rollouts: longest task {longest * 1000:.0f} ms, {busy / 5:.0%} of a core")
    assert longest < 0.05
    assert busy / 5 < 0.25


async def test_a_run_of_a_thousand_turns_is_searched_and_read_without_a_stall() -> None:
    def look(tab: Tab, url: str) -> tuple[float, float]:
        page = tab.page
        page.goto(url)
        expect(page.locator(".detail h2")).to_have_text("Turn 999", timeout=60_000)
        page.get_by_role("button", name="Earlier messages").click()
        expect(page.locator(".detail .message").nth(20)).to_be_attached()

        def read() -> None:
            for number in range(998, 978, -1):
                page.keyboard.press("k")
                expect(page.locator(".detail h2")).to_have_text(f"Turn {number}")
            page.locator(".turns .list").evaluate("list => list.scrollTop = 0")
            page.locator("#search").fill("answer 500")
            page.keyboard.press("Enter")
            page.locator(".hit").click()
            expect(page.locator(".detail h2")).to_have_text("Turn 500")

        return measure(page, read)

    with trio.fail_after(280):
        async with httpx2.AsyncClient() as client, triocept.serve_endpoint(view=True) as endpoint:
            model = ScriptedModel([f"answer {number}" for number in range(1_000)])
            async with endpoint.open_rollout(model) as rollout:
                agent = Agent(client, rollout)
                for number in range(1_000):
                    await agent.call(f"question {number}")
            longest, busy = await browse(partial(look, url=endpoint.view_url))
    print(f"1,000 turns: longest task {longest * 1000:.0f} ms, {busy:.2f} s in all")
    assert longest < 0.05
