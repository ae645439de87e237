"""Call a scorer by KServe's SDK: ``python kserve_calls.py ABOUT grpc|rest``, in an environment of that SDK."""

# The SDK is in an environment of its own.
# mypy: ignore-errors
from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


def request(name, values, datatype, binary):
    tensor = InferInput("samples", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest(model_name=name, infer_inputs=[tensor], request_id="the-id")


def check(answer, expected):
    """Compare an answer with that of ONNX Runtime, bit for bit."""
    assert answer.id == "the-id", answer
    outputs = {each.name: each.as_numpy() for each in answer.outputs}
    np.testing.assert_array_equal(outputs["probabilities"].astype(np.float32), expected)
    np.testing.assert_array_equal(outputs["predicted"], expected.argmax(axis=1))


async def calls(about, way):
    known = np.load(about["answers"])
    asked = [
        (request(name, values, datatype, binary), expected)
        for name, values, datatype, expected in (
            ("blobs", known["images"], "UINT8", known["pixels"]),
            ("texts", known["texts"].astype(object), "BYTES", known["topics"]),
        )
        for binary in (True, False)
    ]
    if way == "grpc":
        client = InferenceGRPCClient(about["grpc"])
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("blobs")
        for each, expected in asked:
            check(await client.infer(each), expected)
        await client.close()
        return
    client, url = InferenceRESTClient(RESTConfig(protocol="v2")), f"http://{about['rest']}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "blobs")
    for each, expected in asked:
        check(await client.infer(url, each, model_name=each.model_name), expected)
    await client.close()


if __name__ == "__main__":
    asyncio.run(calls(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]))
