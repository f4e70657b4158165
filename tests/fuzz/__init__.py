"""Inputs made by a machine, against everything that comes over a wire.

* `kind`: what a kind of inputs is, and what a violation is.
* `http1`, `websocket`, `tls`: bytes over real sockets. `bodies`, `upstream`: in memory.
* `tapped`: what the tap of a provider's connection reads.
* `stage`: an endpoint under a clock that jumps, its plain clients, and the look at what is left.
* `requests`: HTTP/1.1 requests by a grammar. `wire`: answers, read. `sdk_types`: documents, from the SDKs' own types.
* `mutate`: changes of bytes and of JSON. `shrink`: the shortest input that still fails.
* `runner`: seeds, batches, what is printed. `python -m tests.fuzz` runs it.

Rules:

1. An input is a JSON value, and depends on nothing but the seed, the kind's name and its number.
2. An input is judged when nothing can happen any more: every task waits, and nothing is in a socket. There is no time
   limit to be missed: the clock jumps.
3. What is a violation is said once, by a rule with a name. While an input is shrunk it must go on breaking that rule.
4. An input that once failed stays in `failed.jsonl`, and is tried before all others.
"""
