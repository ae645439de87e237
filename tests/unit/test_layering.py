"""Which modules may import which, by the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("trainer_svc", "scorer_svc", "oracle_svc")
DOMAINS = ("proto/labelloop/domain", "trainer_svc/domain", "oracle_svc/domain")
# Modules without I/O outside the domains.
PURE = [
    "proto/labelloop/artifacts/onnx_bytes.py",
    "proto/labelloop/artifacts/onnx_fields.py",
    "proto/labelloop/artifacts/onnx_lists.py",
    "proto/labelloop/runtime/machine_code.py",
    "trainer_svc/model",
    "trainer_svc/scorers/addresses.py",
    "trainer_svc/scorers/rank_merge.py",
    "trainer_svc/scorers/sharding.py",
    "trainer_svc/accuracies.py",
    "trainer_svc/status.py",
    "scorer_svc/features/neighbours_onnx.py",
    "scorer_svc/features/patch_onnx.py",
    "scorer_svc/features/picture_input.py",
    "scorer_svc/features/scattering_copies.py",
    "scorer_svc/features/scattering_filters.py",
    "scorer_svc/features/scattering_maps.py",
    "scorer_svc/features/scattering_onnx.py",
    "scorer_svc/features/spectral_basis.py",
    "scorer_svc/features/spectral_embedding.py",
    "scorer_svc/features/text_onnx.py",
    "scorer_svc/features/text_terms.py",
    "scorer_svc/models/cost.py",
    "scorer_svc/models/latest.py",
    "scorer_svc/models/string_steps.py",
    "scorer_svc/numerics",
    "scorer_svc/pools/part.py",
    "scorer_svc/prefilter/elementary_code.py",
    "scorer_svc/prefilter/instructions.py",
    "scorer_svc/prefilter/integer_kernel.py",
    "scorer_svc/prefilter/kernel_check.py",
    "scorer_svc/prefilter/layout.py",
    "scorer_svc/prefilter/linear_head.py",
    "scorer_svc/prefilter/machine_code.py",
    "scorer_svc/prefilter/prefilter.py",
    "scorer_svc/prefilter/product_code.py",
    "scorer_svc/prefilter/quantisation.py",
    "scorer_svc/prefilter/score_bounds.py",
    "scorer_svc/prefilter/score_code.py",
    "scorer_svc/prefilter/vectors.py",
    "scorer_svc/ranking",
    "scorer_svc/row_kernel",
    "scorer_svc/scoring/admission.py",
    "scorer_svc/scoring/answer_bytes.py",
    "scorer_svc/scoring/images.py",
    "scorer_svc/scoring/texts.py",
    "scorer_svc/strategies",
    "oracle_svc/datasets/fitting.py",
    "oracle_svc/datasets/picture_depth.py",
    "oracle_svc/datasets/picture_formats.py",
    "oracle_svc/datasets/picture_notes.py",
    "oracle_svc/datasets/picture_size.py",
    "oracle_svc/samples/encoding.py",
    "oracle_svc/samples/originals.py",
    "oracle_svc/result_json.py",
]
IO = {"asyncio", "nats", "grpc", "httpx", "socket", "subprocess", "fsspec", "pathlib", "structlog"}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports."""
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


def below(place: str) -> list[Path]:
    """A file, or the files in a folder."""
    path = ROOT / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, place
    return files


@pytest.mark.parametrize("place", [*DOMAINS, *PURE])
def test_pure_modules_do_no_io(place: str) -> None:
    found = {name for path in below(place) for name in imports(path)}
    assert not {name for name in found if name.split(".")[0] in IO}
    ours = {name for name in found if name.split(".")[0] == "labelloop" and ".v1" not in name}
    pure = ("labelloop.domain", "labelloop.artifacts.onnx_", "labelloop.runtime.machine_code")
    assert not {name for name in ours if name != "labelloop.errors" and not name.startswith(pure)}


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_knows_only_the_contract_errors_and_itself(domain: str) -> None:
    own = domain.removeprefix("proto/").replace("/", ".")
    for path in below(domain):
        for name in imports(path):
            if name.split(".")[0] in sys.stdlib_module_names | {"numpy", "pyroaring"}:  # which compute and do no I/O
                continue
            assert name == "labelloop.errors" or ".v1." in name or name.startswith((own, "labelloop.domain")), path


@pytest.mark.parametrize("folder", ["domain", "datasets", "samples"])
def test_domain_datasets_and_samples_import_no_page_or_integration(folder: str) -> None:
    for path in below(f"oracle_svc/{folder}"):
        assert not [name for name in imports(path) if name.startswith(("oracle_svc.web", "oracle_svc.integrations"))]
