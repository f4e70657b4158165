"""Real Claude Code with a sub-agent, and Codex, watched and guarded from the page; then their runs as HTML files."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import trio
from playwright.sync_api import expect

import triocept
from tests.real_agents.cases import SOURCES
from tests.real_agents.installed import CannotInstall, agents_folder, installed
from tests.real_browsers.browsing import CHROMIUM, Tab, browse
from triocept import Exchange, ToolCall, agents
from triocept.exports import html_page
from triocept.handlers import Decision, approve, ask_page

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="this machine has no chromium (apt-get install chromium)"),
]


class Model:
    """Gives the calls of each kind of conversation their replies, one after the other."""

    def __init__(self, **replies: list[ToolCall | str]) -> None:
        self._replies = replies

    async def __call__(self, exchange: Exchange) -> None:
        left = self._replies.get(exchange.conversation.kind)
        reply = left.pop(0) if left else "A title"
        await exchange.respond(reply)


async def run(agent: str, model: Model, tools: str, look: triocept.Handler, folder: Path) -> triocept.Trace:
    """Run the agent while a person looks at the page and decides; return the trace."""
    try:
        executable = await trio.to_thread.run_sync(installed, SOURCES[agent], agents_folder())
    except CannotInstall as exc:
        pytest.skip(str(exc))
    work = folder / "work"
    work.mkdir()
    with trio.fail_after(280):
        async with triocept.serve_endpoint(view=True) as endpoint:
            async with endpoint.open_rollout(
                approve(model, {tools: ask_page, "*": Decision.approve()}), id=agent
            ) as rollout:
                launch = agents.agent(agent)(
                    rollout,
                    folder / "home",
                    "Count the files, then write proof.txt.",
                    executable=str(executable),
                )
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(browse, partial(look, url=endpoint.view_url))
                    result = await rollout.run_agent(
                        launch.argv, env={"HOME": str(folder), **launch.env}, cwd=work
                    )
    assert result.returncode == 0, result.stderr_text
    return rollout.trace


async def opened_as_file(trace: triocept.Trace, folder: Path) -> float:
    """Write the run as one HTML file, and return the seconds until its last turn is shown."""
    path = folder / "run.html"
    path.write_bytes(html_page([trace]))
    last = len(trace) - 1

    def look(tab: Tab) -> float:
        start = time.perf_counter()
        tab.page.goto(path.as_uri())
        expect(tab.page.locator(".detail h2")).to_have_text(f"Turn {last}")
        return time.perf_counter() - start

    seconds = await browse(look)
    print(
        f"{trace.rollout}: {len(trace)} turns, HTML {path.stat().st_size / 1024:.0f} KB, opens in {seconds:.2f} s"
    )
    return seconds


async def test_claude_code_with_a_sub_agent_is_watched_and_guarded_from_the_page(tmp_path: Path) -> None:
    def bash(command: str) -> ToolCall:
        return ToolCall.of("Bash", command=command, description="d")

    prompt = "SUBTASK: count the files here with ls."
    model = Model(
        main=[
            ToolCall.of("Agent", description="count", prompt=prompt, subagent_type="general-purpose"),
            bash("rm -rf everything"),
            bash("touch unwanted.txt"),
            "All done.",
        ],
        sub_agent=[bash("ls | wc -l"), "There are 0 files."],
    )

    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        waiting = page.locator("section.waiting")
        expect(waiting).to_contain_text("ls | wc -l", timeout=120_000)
        expect(page.locator(".outline-row").nth(1)).to_contain_text("↳")
        waiting.get_by_role("button", name="Approve").click()
        expect(waiting).to_contain_text("rm -rf everything", timeout=60_000)
        waiting.get_by_role("button", name="Edit").click()
        waiting.locator("textarea").fill('{"command": "echo hello > proof.txt", "description": "d"}')
        waiting.get_by_role("button", name="Approve with").click()
        expect(waiting).to_contain_text("touch unwanted.txt", timeout=60_000)
        waiting.get_by_role("button", name="Reject").click()
        waiting.locator("textarea").fill("not wanted")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".detail .message.assistant").first).to_contain_text("All done.", timeout=60_000)

    trace = await run("claude_code", model, "Bash", look, tmp_path)
    decided = [each.kind for turn in trace for each in turn.decisions if each.by == "page"]
    assert decided == ["approve", "modify", "reject"]
    assert {"main", "sub_agent"} <= {each.kind for each in trace.conversations.values()}
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["proof.txt"]
    assert (tmp_path / "work" / "proof.txt").read_text() == "hello\n"
    assert await opened_as_file(trace, tmp_path) < 20


async def test_codex_is_watched_and_guarded_from_the_page(tmp_path: Path) -> None:
    calls = [
        ToolCall.of("exec_command", cmd=text) for text in ("rm -rf everything", "echo hello > proof.txt")
    ]
    model = Model(main=[*calls, "All done."])

    def look(tab: Tab, url: str) -> None:
        page = tab.page
        page.goto(url)
        waiting = page.locator("section.waiting")
        expect(waiting).to_contain_text("rm -rf everything", timeout=120_000)
        waiting.get_by_role("button", name="Reject").click()
        waiting.locator("textarea").fill("too much")
        page.keyboard.press("Control+Enter")
        expect(waiting).to_contain_text("proof.txt", timeout=60_000)
        waiting.get_by_role("button", name="Approve").click()
        expect(page.locator(".detail .message.assistant").first).to_contain_text("All done.", timeout=60_000)

    trace = await run("codex", model, "exec_command", look, tmp_path)
    assert [(each.kind, each.reason) for turn in trace for each in turn.decisions] == [
        ("reject", "too much"),
        ("approve", ""),
    ]
    assert (tmp_path / "work" / "proof.txt").read_text() == "hello\n"
    assert await opened_as_file(trace, tmp_path) < 20
