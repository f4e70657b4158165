"""The ASGI lifespan, run by ourselves: an application that did not start is an error, never a running endpoint."""

from __future__ import annotations

from typing import Any

import trio

from .front import App


class LifespanFailed(Exception):
    """The application refused to start or to stop; its own words are the message."""


async def run_lifespan(
    app: App, shutdown: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Start `app`, report that it has started, and when `shutdown` is set, stop it.

    Raises:
        LifespanFailed: it said that it failed, or returned without a word.

    Cancellation: the application is cancelled, and does not stop in its own way.
    """
    reports: dict[str, trio.Event] = {"startup": trio.Event(), "shutdown": trio.Event()}

    async def receive() -> dict[str, Any]:
        if not reports["startup"].is_set():
            return {"type": "lifespan.startup"}
        await shutdown.wait()
        if not reports["shutdown"].is_set():
            return {"type": "lifespan.shutdown"}
        return await trio.sleep_forever()

    async def send(message: dict[str, Any]) -> None:
        _, stage, verdict = message["type"].split(".")
        if verdict != "complete":
            raise LifespanFailed(f"{stage}: {message.get('message', '')}")
        reports[stage].set()
        if stage == "startup":
            task_status.started()

    await app(
        {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}, receive, send
    )
    if not reports["shutdown"].is_set():
        raise LifespanFailed("the application ended before it was asked to")
