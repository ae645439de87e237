"""The peers: their versions, and how each is started and called, by its fastest protocol here."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue
from labelloop.inference.v2.inference_pb2 import ModelInferRequest
from numpy.typing import NDArray

Images = NDArray[np.uint8]
_V2 = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Peer:
    """``python -m tests.bench.peers.<name>_server MODEL HTTP_PORT GRPC_PORT METRICS_PORT FOLDER`` serves the model.

    ``encode`` turns images [n, 784] into what is posted to ``path``, by gRPC or by HTTP/1.1.
    """

    name: str
    requirements: tuple[str, ...]
    path: str
    encode: Callable[[Images], bytes]
    is_grpc: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def _as_it_is(images: Images) -> bytes:
    return images.tobytes()


def _in_bytes_value(images: Images) -> bytes:
    return BytesValue(value=images.tobytes()).SerializeToString()


def _as_uint8(images: Images) -> bytes:
    return _v2("UINT8", images.shape, images.tobytes())


def _as_one_element(images: Images) -> bytes:
    data = images.tobytes()
    return _v2("BYTES", (1,), len(data).to_bytes(4, "little") + data)


def _v2(datatype: str, shape: tuple[int, ...], raw: bytes) -> bytes:
    tensor = ModelInferRequest.InferInputTensor(name="images", datatype=datatype, shape=shape)
    request = ModelInferRequest(model_name="scorer", inputs=[tensor], raw_input_contents=[raw])
    return request.SerializeToString()


PEERS = (
    Peer(
        "bentoml",
        ("bentoml==1.4.39",),
        "/raw/score",
        _as_it_is,
        is_grpc=False,
        environment={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "ray",
        ("ray[serve]==2.60.0",),
        "/bench.Scorer/Score",
        _in_bytes_value,
        environment={
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # the option above turns it on, and it needs HAProxy
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its processes then use the loopback only
        },
    ),
    Peer("mlserver", ("mlserver==1.7.1",), _V2, _as_one_element),
    Peer(
        "pytriton",
        ("nvidia-pytriton==0.7.0",),
        _V2,
        _as_uint8,
        # Triton's own Python must be the one whose library it loads.
        environment={"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))},
    ),
)
