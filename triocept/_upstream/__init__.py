"""Real models to which exchanges are forwarded.

* `upstream`: `open_upstream`, `Upstream`. The file to read first.
* `address`: where it is; `given`: the rest of what `open_upstream` is given, looked at.
* `request`: what goes up: the agent's own document, or one in the provider's dialect.
* `ceiling`: how many tokens an answer may have at most.
* `history`: reasoning that only its provider can read, put back where the agent could not keep it.
* `headers`: which headers pass, both ways.
* `transport`: httpx2, and the border at which its errors become ours.
* `tap`, `pool`, `chunked`: the body of a stream, read beside httpx2.
* `patience`: how long a provider is waited for, and when it is asked once more.
* `counting`: how many tokens a prompt has, asked of the provider.
* `failures`: what a provider's bad answer amounts to.
* `redaction`: the key, taken out of it.
* `relay`: a stream, from bytes to pieces that are whole.
* `limiter`: how many at once.
* `tokens`: ids and log probabilities, for those who train.

Rules:

1. A piece of a stream is whole frames, and the frame that ends the answer waits until the turn is recorded. In the
   agent's own dialect, what a look tells to be no more than content goes on before it is read; all else is read first.
2. A failure before the first piece is raised and settles nothing: whoever forwarded may try another upstream.
3. A key is sent, and stands nowhere else: not in a repr, a log, a trace or an error's text.
"""

from .upstream import Upstream, open_upstream

__all__ = ["Upstream", "open_upstream"]
