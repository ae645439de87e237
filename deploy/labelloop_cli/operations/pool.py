"""Show what a pool holds before a run, for ``labelloop pool``, and at the start of a run."""

from __future__ import annotations

import json
from typing import Any

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from labelloop.errors import from_rpc
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest, DescribeDatasetResponse
from rich.table import Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.output import pool_summary
from labelloop_cli.output.console import console, going_on
from labelloop_cli.run_options import chosen_features, word
from labelloop_cli.run_spec.request import WantedRun

_UNNAMED = ("a", "b")  # the oracle describes no dataset without classes


async def inspect_pool(wanted: WantedRun, *, as_json: bool) -> None:
    """Print what the dataset of a run holds, as a table or as one JSON object."""
    spec = wanted.request.spec
    async with connect(Endpoints()) as clients:
        described = await _described_at_least(clients, spec.dataset)
    features, why = chosen_features(described) if wanted.choose_features else (spec.features, "")
    if as_json:
        typer.echo(json.dumps(_document(described, features), ensure_ascii=False, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for title, text in pool_summary.facts(described, features):
        table.add_row(title, text)
    console.print(table, highlight=False)
    for note in filter(None, (*described.notes, why)):
        console.print(f"- {note}", highlight=False)


async def _described_at_least(clients: Clients, source: DatasetSource) -> DescribeDatasetResponse:
    """Return what the oracle says of a dataset, without classes if nobody has named them yet."""
    try:
        return await described_dataset(clients, source)
    except grpc.aio.AioRpcError as error:
        fault = from_rpc(error)
        if fault is None or fault.reason != "TOO_FEW_CLASSES" or source.classes:
            raise
    unnamed = DatasetSource(classes=_UNNAMED)
    unnamed.MergeFrom(source)
    described = await described_dataset(clients, unnamed)
    described.ClearField("dataset_sha256")
    del described.classes[:], described.class_counts[:]
    described.description = described.description.replace(f", {len(_UNNAMED)} classes", "")
    return described


async def described_dataset(clients: Clients, source: DatasetSource) -> DescribeDatasetResponse:
    """Return what the oracle says of a dataset; show on a terminal that reading it goes on."""
    with going_on(f"reading {source.name}"):
        response: DescribeDatasetResponse = await clients.oracle.DescribeDataset(DescribeDatasetRequest(dataset=source))
    return response


def _document(described: DescribeDatasetResponse, features: FeatureKind.ValueType) -> dict[str, Any]:
    document = MessageToDict(described, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    document["pool_bytes"] = described.pool_bytes  # protobuf writes 64-bit numbers as text
    del document["oracle_bytes"]
    memory = {
        "oracle_bytes": pool_summary.oracle_bytes(described),
        "scorer_bytes": pool_summary.scorer_bytes(described, features),
    }
    return document | {"features": word(FeatureKind.Name(features)), "memory": memory}
