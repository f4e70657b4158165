"""The command line: `triocept run` and `triocept demo`.

* `run`: an endpoint, a rollout, an agent.
* `demo`: the same with a small agent that is bundled (`demo_agent`) and a scripted model.
* `show`: what a person sees of it.
"""

from .commands import main

__all__ = ["main"]
