import sys
from pathlib import Path

import trio
import triocept
from tiny_engine import serve_engine  # stands for vLLM
from triocept.traces import DirectoryRecorder, branches, drift, lease_traces

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def collect(number: int) -> None:
    async with (
        serve_engine() as url,
        triocept.open_upstream(
            url, dialect="openai_chat", model="tiny", tokens="vllm"
        ) as upstream,
        triocept.serve_endpoint(recorder=DirectoryRecorder("runs")) as endpoint,
    ):
        upstream.policy_version = "step-7"
        for _ in range(number):
            async with endpoint.open_rollout(upstream) as rollout:
                result = await rollout.run_agent([*TINY_AGENT, "What is 6 * 7?"])
                await rollout.score("right", float("42" in result.stdout_text))


async def train() -> None:
    async with lease_traces("runs", wait=False) as lease:
        async for trace in lease:
            for branch in branches(trace):
                ids, logprobs = branch.token_ids, branch.logprobs
                assert len(ids) == len(branch.mask) == len(logprobs)
                sampled = bytes(
                    each for each, mask in zip(ids, branch.mask) if mask
                )  # a token is a byte
                print(trace.scores, sampled.decode().splitlines())
            print(drift(trace).counts)
            lease.acknowledge(trace)


async def main() -> None:
    await collect(2)
    await train()


trio.run(main)
