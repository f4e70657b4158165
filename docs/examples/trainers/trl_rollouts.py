"""TRL's GRPOTrainer, whose rollouts are agents: `rollout_func`.

TRL gives each prompt as often as it has generations, and wants one sequence for each.
What the agent and the template put between is masked out by `env_mask`.
"""

import sys
from functools import partial
from tempfile import TemporaryDirectory

import torch
import trio
from datasets import Dataset
from grpo import GOALS, GROUP, ROUNDS, open_worker, walk
from tiny_model import Engine, make_model, make_tokenizer, serve_engine
from triocept.fleets import InProcess, open_fleet
from triocept.traces import branches
from trl import GRPOConfig, GRPOTrainer


def roll_out(engine, prompts, trainer):
    """What TRL calls in each of its steps."""
    engine.version = f"step-{trainer.state.global_step}"
    results = trio.run(walks, engine, prompts)
    return {**sequences(results), "walked": [result.value for result in results]}


async def walks(engine, prompts):
    """A rollout for each prompt, in their order."""
    tasks = [{"goal": goal, "version": engine.version} for goal in prompts]
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_engine, engine)
        worker = partial(open_worker, url)
        async with open_fleet(InProcess(slots=8), worker=worker) as fleet:
            async with fleet.map(walk, tasks, ordered=True) as results:
                walked = [result async for result in results]
        nursery.cancel_scope.cancel()
    return walked


def sequences(results):
    """The tokens of each rollout as TRL takes them: cut before the first sampled one."""
    found = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "env_mask": []}
    for result in results:
        (trace,) = result.traces
        (branch,) = branches(trace)  # an agent with sub-agents, or compaction, has more
        start = branch.spans[0].start
        found["prompt_ids"].append(branch.token_ids[:start].tolist())
        found["completion_ids"].append(branch.token_ids[start:].tolist())
        found["logprobs"].append(branch.logprobs[start:].tolist())
        found["env_mask"].append(list(branch.mask[start:]))
    return found


def reward(walked, **_):
    """What a rollout returned: TRL passes on whatever else `rollout_func` gives."""
    return walked


def make_trainer(engine, folder, number=ROUNDS):
    """TRL's trainer of so many steps."""
    return GRPOTrainer(
        model=engine.model,
        processing_class=engine.tokenizer,
        reward_funcs=reward,
        rollout_func=partial(roll_out, engine),
        train_dataset=Dataset.from_list([{"prompt": goal} for goal in GOALS]),
        args=GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=GROUP * len(GOALS),
            num_generations=GROUP,
            max_steps=number,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            max_grad_norm=0.5,
            temperature=1.0,  # the upstream's
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )


def main(number=ROUNDS):
    torch.manual_seed(0)
    engine = Engine(make_model(), make_tokenizer())
    with TemporaryDirectory() as folder:
        trainer = make_trainer(engine, folder, number)
        trainer.train()
    rewards = [each["reward"] for each in trainer.state.log_history if "reward" in each]
    print("reward", *[f"{each:+.2f}" for each in rewards])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
