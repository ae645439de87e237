"""Call a scorer by Triton's client library: ``python triton_calls.py ABOUT grpc|http|grpc.aio|http.aio|numbers``.

It runs in an environment of that library, and fails on the first answer that is not as it should be.
"""

# The library is in an environment of its own.
# mypy: ignore-errors
from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from pathlib import Path

import numpy as np


class Calls:
    """Calls by one of the library's four clients."""

    def __init__(self, about, way):
        self.about, self.way = about, way
        self.library = importlib.import_module(f"tritonclient.{way}")
        self.is_rest = way.startswith("http")
        self.client = self.library.InferenceServerClient(about["rest" if self.is_rest else "grpc"])
        self.known = np.load(about["answers"])
        from tritonclient.utils import InferenceServerException

        self.refusal = InferenceServerException

    async def call(self, method, *arguments, **named):
        """Call a method, of a blocking client or of one with coroutines."""
        answer = getattr(self.client, method)(*arguments, **named)
        return await answer if inspect.isawaitable(answer) else answer

    def tensor(self, values, datatype, **options):
        tensor = self.library.InferInput("samples", list(values.shape), datatype)
        tensor.set_data_from_numpy(values, **options)
        return tensor

    async def refused(self, method, *arguments, **named):
        """Return the message and the status with which a call is refused."""
        try:
            await self.call(method, *arguments, **named)
        except self.refusal as error:
            return error.message(), error.status()
        raise AssertionError(f"{method} was answered")

    async def all(self):
        await self.health()
        await self.metadata()
        await self.images()
        await self.texts()
        await self.versions()
        await self.chosen_outputs()
        await self.refusals()
        if not self.is_rest:
            await self.stream()
        closed = self.client.close()
        if inspect.isawaitable(closed):
            await closed

    async def health(self):
        assert await self.call("is_server_live")
        assert await self.call("is_server_ready")
        assert await self.call("is_model_ready", "blobs")
        assert await self.call("is_model_ready", "blobs", str(self.about["rounds"]))
        assert not await self.call("is_model_ready", "nobody")
        assert not await self.call("is_model_ready", "blobs", "99")

    async def metadata(self):
        options = {} if self.is_rest else {"as_json": True}
        server = await self.call("get_server_metadata", **options)
        assert server["name"] == "labelloop", server
        model = await self.call("get_model_metadata", "blobs", **options)
        assert model["versions"] == [str(each + 1) for each in range(self.about["rounds"])], model
        [samples] = model["inputs"]
        assert (samples["name"], samples["datatype"]) == ("samples", "UINT8")
        assert [int(size) for size in samples["shape"]] == [-1, 6, 6]
        texts = await self.call("get_model_metadata", "texts", **options)
        assert texts["inputs"][0]["datatype"] == "BYTES"
        config = await self.call("get_model_config", "blobs", **options)
        assert int(config.get("config", config)["max_batch_size"]) > 1

    def check(self, result, expected):
        """Compare an answer with that of ONNX Runtime, bit for bit."""
        probabilities = result.as_numpy("probabilities")
        assert probabilities.dtype == np.float32
        np.testing.assert_array_equal(probabilities, expected)
        np.testing.assert_array_equal(result.as_numpy("predicted"), expected.argmax(axis=1))
        np.testing.assert_array_equal(result.as_numpy("confidence"), expected.max(axis=1))

    async def images(self):
        images, expected = self.known["images"], self.known["pixels"]
        ways = [{"binary_data": True}, {"binary_data": False}] if self.is_rest else [{}]
        for count in (1, len(images)):
            for values in (images[:count], images[:count].reshape(count, -1), images[:count].astype(np.float32)):
                for options in ways:
                    tensor = self.tensor(values, "FP32" if values.dtype == np.float32 else "UINT8", **options)
                    result = await self.call("infer", "blobs", [tensor], request_id="the-id")
                    self.check(result, expected[:count])
                    answer = result.get_response()
                    assert "the-id" in str(answer), answer

    async def texts(self):
        texts, expected = self.known["texts"].astype(object), self.known["topics"]
        ways = [{"binary_data": True}, {"binary_data": False}] if self.is_rest else [{}]
        for values in (texts, texts.reshape(-1, 1)):
            for options in ways:
                self.check(await self.call("infer", "texts", [self.tensor(values, "BYTES", **options)]), expected)

    async def versions(self):
        tensor = self.tensor(self.known["images"], "UINT8")
        for version in (str(self.about["rounds"]), self.about["digest"]):
            self.check(await self.call("infer", "blobs", [tensor], model_version=version), self.known["pixels"])

    async def chosen_outputs(self):
        wanted = [self.library.InferRequestedOutput("confidence")]
        result = await self.call("infer", "blobs", [self.tensor(self.known["images"], "UINT8")], outputs=wanted)
        np.testing.assert_array_equal(result.as_numpy("confidence"), self.known["pixels"].max(axis=1))
        assert result.as_numpy("predicted") is None

    async def refusals(self):
        images = self.known["images"]
        good = [self.tensor(images, "UINT8")]
        message, status = await self.refused("infer", "nobody", good)
        assert "there is no run 'nobody'" in message, message
        assert status in ("404", "StatusCode.NOT_FOUND"), status
        message, status = await self.refused("infer", "blobs", [self.tensor(images.transpose(0, 2, 1)[:, :5], "UINT8")])
        assert "of shape [7, 5, 6]" in message, message
        assert status in ("400", "StatusCode.INVALID_ARGUMENT"), status
        unknown = [self.library.InferRequestedOutput("logits")]
        message, _ = await self.refused("infer", "blobs", good, outputs=unknown)
        assert "no output 'logits'" in message, message
        missing = self.tensor(np.full((1, 36), np.nan, np.float32), "FP32")
        message, _ = await self.refused("infer", "blobs", [missing])
        assert "no finite numbers" in message, message

    async def stream(self):
        images, expected = self.known["images"], self.known["pixels"]
        good, bad = self.tensor(images, "UINT8"), self.tensor(images[:, :5], "UINT8")
        asked = [("1", good), ("2", bad), ("3", good)]
        if self.way == "grpc.aio":

            async def requests():
                for id_, tensor in asked:
                    yield {"model_name": "blobs", "inputs": [tensor], "request_id": id_}

            answers = [each async for each in self.client.stream_infer(requests())]
        else:
            answers = await asyncio.to_thread(self.streamed, asked)
        assert [error is None for _, error in answers] == [True, False, True], answers
        assert "of shape [7, 5, 6]" in answers[1][1].message()
        for result, _ in (answers[0], answers[2]):
            self.check(result, expected)

    def streamed(self, asked):
        from queue import Queue

        told = Queue()
        self.client.start_stream(lambda result, error: told.put((result, error)))
        for id_, tensor in asked:
            self.client.async_stream_infer("blobs", [tensor], request_id=id_)
        answers = [told.get(timeout=60) for _ in asked]
        self.client.stop_stream()
        return answers


def numbers():
    """Return the methods and fields of the protocol as the library declares them."""
    from tritonclient.grpc import service_pb2

    methods, messages, waiting = {}, {}, []
    for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        streams = [method.client_streaming, method.server_streaming]
        methods[method.name] = [method.input_type.full_name, method.output_type.full_name, *streams]
        waiting += [method.input_type, method.output_type]
    while waiting:
        message = waiting.pop()
        if message.full_name in messages:
            continue
        messages[message.full_name] = {
            field.name: [field.number, field.type, getattr(field.message_type, "full_name", "")]
            for field in message.fields
        }
        waiting += [field.message_type for field in message.fields if field.message_type]
    return {"methods": methods, "messages": messages}


async def main(about, way):
    """Make all calls; a client with coroutines belongs to the event loop in which it is made."""
    await Calls(json.loads(about.read_text()), way).all()


if __name__ == "__main__":
    if sys.argv[2] == "numbers":
        print(json.dumps(numbers()))
    else:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
