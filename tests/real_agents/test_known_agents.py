"""The known agents, made ready by `triocept.agents`, in every dialect that they speak: a tool runs, a file appears."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.real_agents.cases import CASES, PROMPT, Case, cases
from tests.real_agents.play import Calls, Model, Played, check_turns, play
from triocept import serve_endpoint


@cases()
async def test_an_agent_does_its_task_in_exactly_the_expected_turns(
    case: Case, tmp_path: Path, executable_of: Callable[[str], Path], calls: Calls
) -> None:
    played = await play(case, executable_of(case.agent), tmp_path)
    check_turns(played)
    assert calls.main == len(case.replies)
    assert calls.side == 0, "their launches keep them from side calls"


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.agent == "opencode"], ids=lambda case: case.name
)
async def test_the_title_that_opencode_asks_for_is_a_side_call(
    case: Case, tmp_path: Path, executable_of: Callable[[str], Path], calls: Calls
) -> None:
    model = Model(case.replies)
    work = tmp_path / "work"
    work.mkdir()
    with trio.fail_after(120):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(model) as rollout:
            launch = case.prepare(rollout, tmp_path, PROMPT, executable=str(executable_of(case.agent)))
            untitled = [word for word in launch.argv if word not in ("--title", "triocept")]
            env = {"HOME": str(tmp_path), **launch.env}
            result = await rollout.run_agent(untitled, env=env, cwd=work)
    played = Played(case, result, rollout.trace, work, model)
    assert len(played.side) == calls.side == 1
    assert played.side[0].response.text == "A title"
    check_turns(played)
