"""Time calls of several servers by Triton's client library, in turn: ``python triton_latency.py SERVERS``.

``SERVERS`` is a JSON list of objects with ``address``, ``model``, ``input``, ``datatype`` and ``body``, the hexadecimal
bytes of one image. Prints the median latency of each in microseconds, as a JSON list. It runs in an environment of that
library.
"""

# The library is in an environment of its own.
# mypy: ignore-errors
from __future__ import annotations

import json
import sys
from statistics import median
from time import perf_counter

import numpy as np
import tritonclient.grpc as library

_ROUNDS, _CALLS = 10, 100


def made(server):
    """Return a function that makes one call."""
    image = np.frombuffer(bytes.fromhex(server["body"]), np.uint8)
    is_bytes = server["datatype"] == "BYTES"
    values = np.array([image.tobytes()], object) if is_bytes else image.reshape(1, -1)
    tensor = library.InferInput(server["input"], list(values.shape), server["datatype"])
    tensor.set_data_from_numpy(values)
    client = library.InferenceServerClient(server["address"])
    return lambda: client.infer(server["model"], [tensor])


def main(servers):
    calls, seconds = [made(server) for server in servers], [[] for _ in servers]
    for call in calls:
        call()
    for _ in range(_ROUNDS):
        for call, taken in zip(calls, seconds, strict=True):
            for _ in range(_CALLS):
                began = perf_counter()
                call()
                taken.append(perf_counter() - began)
    print(json.dumps([median(taken) * 1e6 for taken in seconds]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
