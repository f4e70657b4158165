"""An environment of verifiers from PyPI, unchanged, whose model is an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

from tests.real_exports.environments import environment
from triocept import Exchange, serve_endpoint

CLAIM = "<claim>The author says so.</claim>"


async def argue(exchange: Exchange) -> None:
    await exchange.respond(CLAIM)


async def test_vf_eval_runs_an_environment_on_the_base_url_of_a_rollout(tmp_path: Path) -> None:
    """Two questions, two rollouts of each: `vf-eval` scores the claims that the handler makes."""
    program = environment("vf_eval") / "bin" / "vf-eval"
    async with serve_endpoint() as endpoint, endpoint.open_rollout(argue) as rollout:
        options = (
            "-m",
            "any",
            "-b",
            rollout.base_url("openai_chat"),
            "-k",
            "OPENAI_API_KEY",
            "-n",
            "2",
            "-r",
            "2",
        )
        command = [str(program), "sophistry-bench-sprint", *options, "-s", "-d", "-o", str(tmp_path)]
        result = await rollout.run_agent(command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr_tail
    (file,) = tmp_path.rglob("results.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["example_id"] for each in found] == [0, 0, 1, 1]
    assert {each["completion"][0]["content"] for each in found} == {CLAIM}
    assert [each["error"] for each in found] == [None] * 4
    assert all(each["reward"] > 0 for each in found)
    assert {each["n_claims_metric"] for each in found} == {1.0}
    assert [turn.outcome for turn in rollout.trace] == ["answered"] * 4
    asked = [turn.request.messages[-1].text for turn in rollout.trace]
    assert len(set(asked)) == 2
