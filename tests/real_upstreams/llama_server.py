"""llama.cpp's own HTTP server, in this process: `python llama_server.py MODEL.gguf`. Says where it listens.

Run by the Python that has xllamacpp.
"""

import signal
import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames, parameters.port = ["127.0.0.1"], 0
parameters.n_ctx, parameters.n_parallel = 32_768, 4
parameters.cpuparams.n_threads, parameters.cpuparams_batch.n_threads = 1, 2
parameters.warmup, parameters.use_jinja = False, True

server = xllamacpp.Server(parameters)
print("listening on", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
