"""The command line: `triocept run`, `triocept serve` and `triocept demo`.

* `run`: an endpoint, a rollout, an agent.
* `serve`: an endpoint and a rollout, for agents that are started elsewhere.
* `forward`: the real model behind either.
* `demo`: the same with a small agent that is bundled (`demo_agent`) and a scripted model.
* `show`: what a person sees of it.
"""

from .commands import main

__all__ = ["main"]
