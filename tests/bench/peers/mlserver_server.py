"""MLServer without workers, which would add a hop: the model is in the process that listens."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from tests.bench.peers.softmax_model import SoftmaxModel


class Scorer(MLModel):  # type: ignore[misc]  # the library is not in our environment
    async def load(self) -> bool:
        self._model = SoftmaxModel(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Images and answer are one BYTES element: MLServer would turn UINT8 into a list of numbers."""
        answer = self._model.answer(payload.inputs[0].data[0])
        output = ResponseOutput(name="answer", datatype="BYTES", shape=[1], data=[answer])
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve(model_file: str, http_port: int, grpc_port: int, metrics_port: int) -> None:
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    server = MLServer(Settings(host="127.0.0.1", parallel_workers=0, debug=False, **ports))
    model = ModelSettings(name="scorer", implementation=Scorer, parameters=ModelParameters(uri=model_file))
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], *map(int, sys.argv[2:5])))
