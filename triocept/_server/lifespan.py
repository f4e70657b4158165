"""Run the startup and the shutdown of an ASGI application (its lifespan)."""

from __future__ import annotations

from typing import Any

import trio

from .front import App


class LifespanFailed(Exception):
    """Error: the application reported that it could not start or stop. The text is the application's message."""


async def run_lifespan(
    app: App, shutdown: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Start `app` and report that it has started. When `shutdown` is set, stop the application.

    Raises:
        LifespanFailed: the application reported a failure, or returned without a report.

    Cancellation: the application is cancelled, and its own shutdown does not run.
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
            raise LifespanFailed(
                f"the application reported that its {stage} failed: {message.get('message', '')}"
            )
        reports[stage].set()
        if stage == "startup":
            task_status.started()

    await app(
        {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}, receive, send
    )
    if not reports["shutdown"].is_set():
        raise LifespanFailed("the application ended before the server stopped it")
