"""GRPO in plain torch: agent processes in a fleet, trained on what their model sampled.

Roll out groups, compare the rewards within each, make likelier what did better. All
that a trainer adds is speed. `python grpo.py 2` stops after two rounds.
"""

import statistics
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import torch
import trio
import triocept
from tiny_model import Engine, make_model, make_tokenizer, serve_engine
from triocept.fleets import Processes, open_fleet
from triocept.traces import steps
from triocept.types import Sampling

WALKER = str(Path(__file__).with_name("walker.py"))
GOALS = {"east": 1, "west": -1}
GROUP, ROUNDS, FARTHEST = 8, 28, 9


@asynccontextmanager
async def open_worker(url):
    """Once in each process of the fleet: the provider, and an endpoint for agents."""
    async with (
        triocept.open_upstream(
            url,
            dialect="openai_chat",
            model="tiny",
            tokens="vllm",
            sampling=Sampling(temperature=1.0),
        ) as upstream,
        triocept.serve_endpoint() as endpoint,
    ):
        yield endpoint, upstream


async def walk(worker, task, *, attempt):
    """One rollout; its reward is how far the agent got, 1.0 where it can get at most."""
    endpoint, upstream = worker
    upstream.policy_version = task["version"]
    async with endpoint.open_rollout(upstream) as rollout:
        agent = [sys.executable, "-S", WALKER, task["goal"]]
        result = await rollout.run_agent(agent)
        x, _ = map(int, result.check().stdout_text.split())
        reward = x * GOALS[task["goal"]] / FARTHEST
        await rollout.score("reward", reward)
    return reward


def advantages(rewards):
    """How much better each is than its group."""
    mean, spread = statistics.mean(rewards), statistics.pstdev(rewards)
    return [(each - mean) / (spread + 1e-4) for each in rewards]


def logprobs_of(model, step):
    """What the model says now of the tokens that were sampled then."""
    prompt, completion = step.prompt_ids, step.completion_ids
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0]
    likely = (logits[len(prompt) - 1 : -1] / step.temperature).log_softmax(-1)
    return likely[range(len(completion)), torch.tensor(completion)]


def train(model, optimizer, samples, *, clip=0.2):
    """One step of the optimizer, on pairs of a model call and its advantage.

    Gives the largest difference between a log probability now and when it was sampled:
    0, but for rounding, where these are the weights that sampled it.
    """
    count = sum(len(step.completion_ids) for step, _ in samples)
    apart = 0.0
    optimizer.zero_grad()
    for step, advantage in samples:
        now, then = logprobs_of(model, step), torch.tensor(step.logprobs)
        apart = max(apart, float((now - then).detach().abs().max()))
        ratio = (now - then).exp()
        clipped = ratio.clamp(1 - clip, 1 + clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        (-gain.sum() / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    return apart


async def rounds(fleet, engine, number=ROUNDS):
    """Roll out and train, so often; gives the traces of each round, and `apart`."""
    optimizer = torch.optim.Adam(engine.model.parameters(), lr=1e-2)
    for round_ in range(number):
        engine.version = f"step-{round_}"
        tasks = [{"goal": goal, "version": engine.version} for goal in GOALS]
        samples, traces = [], []
        async with fleet.map(walk, tasks, group_size=GROUP) as results:
            async for group in results.groups():
                better = advantages([result.value for result in group.results])
                for result, advantage in zip(group.results, better, strict=True):
                    (trace,) = result.traces
                    called = [step for step in steps(trace) if step.trained]
                    samples += [(step, advantage) for step in called]
                    traces.append(trace)
        yield traces, train(engine.model, optimizer, samples)


async def main(number=ROUNDS):
    torch.manual_seed(0)
    engine = Engine(make_model(), make_tokenizer())
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_engine, engine)
        worker = partial(open_worker, url)
        async with open_fleet(Processes(2, slots_per_worker=8), worker=worker) as fleet:
            async for traces, apart in rounds(fleet, engine, number):
                reward = statistics.mean(trace.scores["reward"] for trace in traces)
                print(f"reward {reward:+.2f}  apart {apart:.0e}", flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *map(int, sys.argv[1:]))
