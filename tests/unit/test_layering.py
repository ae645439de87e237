"""Who may import whom, read from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("trainer_svc", "scorer_svc", "oracle_svc")
PURE = {
    "trainer_svc": [
        "run_state",
        "softmax",
        "onnx_export",
        "training_state",
        "fitting",
        "spec_check",
        "status",
        "addresses",
        "sharding",
        "merging",
        "regression",
        "descent",
        "calibration",
        "stopping",
        "guarantee",
    ],
    "scorer_svc": [
        "selection",
        "clustering",
        "ranking",
        "estimates",
        "linear",
        "screen",
        "kernel",
        "machine_code",
        "images",
        "newest",
        "backlog",
        "patch_graph",
        "threads",
        "together",
        "batches/candidates",
        "batches/choosing",
        "batches/cold",
        "batches/points",
        "batches/seeding",
        "batches/spreading",
    ],
    "oracle_svc": [
        "agreement",
        "asking",
        "backlog",
        "dawid_skene",
        "desk",
        "pictures",
        "quality",
        "settling",
        "taking",
        "words",
    ],
}
IO = {"asyncio", "nats", "grpc", "httpx", "socket", "subprocess", "fsspec", "pathlib", "structlog"}


def imports(path: Path) -> Iterator[str]:
    """Whole names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@cache
def tops(folder: str) -> dict[Path, set[str]]:
    """For each file below ``folder`` the first part of each import."""
    files = [path for path in (ROOT / folder).rglob("*.py") if "_pb2" not in path.name]
    assert files
    return {path: {name.split(".")[0] for name in imports(path)} for path in files}


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_imports_another(service: str) -> None:
    others = {*SERVICES, "labelloop_cli"} - {service}
    assert not {str(path): found & others for path, found in tops(service).items() if found & others}


@pytest.mark.parametrize("folder", ["proto/labelloop", "deploy/labelloop_cli"])
def test_contract_and_command_import_no_service(folder: str) -> None:
    assert not {str(path): found for path, found in tops(folder).items() if found & set(SERVICES)}


@pytest.mark.parametrize(("heavy", "home"), [("torch", "trainer_svc"), ("onnxruntime", "scorer_svc")])
def test_heavy_libraries_stay_in_one_service(heavy: str, home: str) -> None:
    for folder in {*SERVICES, "proto/labelloop", "deploy/labelloop_cli"} - {home}:
        assert not [str(path) for path, found in tops(folder).items() if heavy in found]
    assert any(heavy in found for found in tops(home).values())


@pytest.mark.parametrize(
    ("service", "module"), [(service, module) for service, names in PURE.items() for module in names]
)
def test_pure_modules_do_no_io(service: str, module: str) -> None:
    found = set(imports(ROOT / service / f"{module}.py"))
    assert not {name for name in found if name.split(".")[0] in IO}
    ours = {name for name in found if name.startswith("labelloop.wire")}
    assert ours <= {
        f"labelloop.wire.{name}" for name in ("answers", "errors", "intervals", "run_rules", "strategies")
    }  # pure themselves
