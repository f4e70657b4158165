"""See whether a trace file is whole; it was cut off, in the middle of its last line."""

import os

import trio
from triocept import JSONLRecorder, serve_endpoint
from triocept.traces import check


async def main(path: str) -> None:
    async with serve_endpoint(recorder=JSONLRecorder(path)) as endpoint:
        async with endpoint.open_rollout(id="one", metadata={"task": 7}) as rollout:
            await rollout.score("reward", 0.5)
    print("complete:", check(path).complete)


def cut_off(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 20)
    for gap in check(path).gaps:
        print(gap.name, "in line", gap.line)


if __name__ == "__main__":
    trio.run(main, "check_me.jsonl")
    cut_off("check_me.jsonl")
