"""llama.cpp's own HTTP server: `python llama_server.py MODEL.gguf [PORT [START]]`. Says where it listens.

Run by the Python that has xllamacpp. A context of 65,536 tokens for each of its slots: prompts of Claude Code have some
30,000 by the scripted model's tokenizer. `START` is what the scripted model says to everything.
"""

import signal
import sys

import xllamacpp

SLOTS, CONTEXT = 6, 65_536

model, port, start = [*sys.argv[1:], *["0", ""][len(sys.argv) - 2 :]]
parameters = xllamacpp.CommonParams()
parameters.model.path = model
parameters.hostnames, parameters.port = ["127.0.0.1"], int(port)
parameters.n_ctx, parameters.n_parallel = CONTEXT * SLOTS, SLOTS
parameters.n_threads_http = 16
# Two threads wait for each other at every node of the graph: on a machine that is busy one is four times as fast.
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
parameters.warmup, parameters.use_jinja = False, True
parameters.endpoint_slots = parameters.endpoint_metrics = True
if start:
    parameters.default_template_kwargs = {"start": f'"{start}"'}  # JSON

server = xllamacpp.Server(parameters)
print("listening on", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
