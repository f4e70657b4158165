"""Upstreams: handlers that answer exchanges by calling a provider's real model.

* `upstream`: the function `open_upstream` and the class `Upstream`. To read the package, begin with this module.
* `address`: the provider's base URL; `given`: checks of the other arguments of `open_upstream`.
* `request`: the JSON body that is sent to the provider: the agent's own body, or a body that is rendered in the
  provider's dialect.
* `ceiling`: the maximum number of tokens of an answer.
* `history`: restores signed or encrypted reasoning in the agent's messages, if the agent could not keep the reasoning.
* `headers`: the headers that are forwarded, in both directions.
* `transport`: HTTP connections with httpx2, and the conversion of httpx2's errors to triocept's errors.
* `proxies`: the proxies that the variables of the environment name.
* `tap`, `chunked`: read the body of a stream without httpx2, for speed.
* `patience`: the time limits of a call, and the pauses before retries.
* `counting`: calls the provider for the number of tokens in a prompt.
* `failures`: the errors for a provider's failures and invalid answers.
* `redaction`: removes the provider's API key from errors.
* `relay`: divides a stream's bytes into pieces that consist of whole frames.
* `limiter`: the maximum number of concurrent calls.
* `pausing`: pauses while the server's weights change, and repeats calls that the server aborted.
* `continuing`: requests the rest of a stream that the server aborted.
* `versions`: the version of the weights, read from an answer.
* `sessions`: reports to a router that a rollout has ended.
* `tokens`: token ids and log probabilities, for training.

Rules:

1. A stream is passed on in pieces that consist of whole frames, and the frame that ends the answer is sent only after
   the turn is recorded. In the agent's own dialect, bytes that pass a quick check for plain content are sent to the
   agent before they are parsed. All other bytes are parsed first.
2. A failure before the first piece raises an error, and the exchange stays open, so that the handler may try another
   upstream.
3. The API key is sent to the provider, and appears nowhere else: neither in a repr nor in a log, a trace or an error.
"""

from .upstream import Upstream, open_upstream

__all__ = ["Upstream", "open_upstream"]
