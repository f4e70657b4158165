"""Real models to which exchanges are forwarded.

* `upstream`: `open_upstream`, `Upstream`. The file to read first.
* `address`: the provider's base URL; `given`: checks of the other arguments of `open_upstream`.
* `request`: the document sent to the provider: the agent's own, or one in the provider's dialect.
* `ceiling`: the maximum number of tokens of an answer.
* `history`: reasoning that only its provider can read, restored where the agent could not keep it.
* `headers`: the headers that are forwarded, in both directions.
* `transport`: httpx2, and the conversion of its errors to triocept's.
* `tap`, `chunked`: the body of a stream, read beside httpx2.
* `patience`: the time limits of a call, and the pauses before retries.
* `counting`: the number of tokens of a prompt, from the provider.
* `failures`: the error for a provider's bad answer.
* `redaction`: the removal of the key from errors.
* `relay`: the conversion of a stream's bytes to whole pieces.
* `limiter`: the maximum number of concurrent calls.
* `pausing`: pauses while the weights of the server change, and calls that it has aborted.
* `versions`: the version of the weights, in an answer.
* `sessions`: the end of each rollout, reported to a router.
* `tokens`: token ids and log probabilities, for training.

Rules:

1. A piece of a stream is whole frames, and the frame that ends the answer waits until the turn is recorded. In
   the agent's own dialect, bytes that a quick check finds to be plain content are passed on before they are
   parsed; all other bytes are parsed first.
2. A failure before the first piece is raised and settles nothing: the handler may try another upstream.
3. A key is sent, and appears nowhere else: not in a repr, a log, a trace or an error's text.
"""

from .upstream import Upstream, open_upstream

__all__ = ["Upstream", "open_upstream"]
