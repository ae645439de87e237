"""What images are made of is pinned, once: no engine is needed to see it."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from tests.docker.stack import COMPOSE, SERVICES
from tests.docker.supplies import DOCKERFILE, LOCKS, ROOT, argument

PINNED = re.compile(r"^([A-Za-z0-9._-]+(?:\[[a-z0-9,-]+\])?)==(\S+) \\$", re.MULTILINE)
LOCKED = [*SERVICES, "cli", "build"]


def pins(lock: str) -> dict[str, str]:
    return dict(PINNED.findall(lock))


@pytest.mark.parametrize("name", LOCKED)
def test_an_image_has_the_versions_that_were_tested(name: str) -> None:
    tested = pins((ROOT / "requirements.lock").read_text())
    held = pins((LOCKS / f"{name}.lock").read_text())
    assert held
    assert {library: version for library, version in held.items() if tested.get(library) != version} == {}, "make lock"


def test_a_library_that_another_wants_with_extras_is_pinned_with_them() -> None:
    """Pip before 23.3 takes `name[extra]` for a library of its own, and refuses it once there is a newer release."""
    held = pins((ROOT / "requirements.lock").read_text())
    needs = [Requirement(need) for library in held for need in importlib.metadata.requires(library.split("[")[0]) or []]
    wanted = {
        f"{need.name}[{','.join(sorted(need.extras))}]"
        for need in needs
        if need.extras and (need.marker is None or need.marker.evaluate({"extra": ""}))
    }
    assert "pydantic[email]" in wanted
    assert wanted - set(held) == set(), "make lock"


@pytest.mark.parametrize("name", [*LOCKED, "torch"])
def test_a_lock_names_versions_and_hashes_and_no_address(name: str) -> None:
    text = (LOCKS / f"{name}.lock").read_text()
    assert "://" not in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines)


def test_torch_is_the_one_of_the_makefile() -> None:
    makefile = dict(re.findall(r"^(TORCH_\w+) := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert pins((LOCKS / "torch.lock").read_text())["torch"] == f"{makefile['TORCH_VERSION']}+cpu"
    assert argument("TORCH_CPU_INDEX") == makefile["TORCH_CPU_INDEX"]


def test_images_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert argument("VERSION") == version
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert {services[name]["image"] for name in SERVICES} == {f"labelloop/{name}:{version}" for name in SERVICES}


def test_everything_that_comes_from_outside_is_pinned() -> None:
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", argument("PYTHON_IMAGE"))
    froms = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert set(froms) <= {"${PYTHON_IMAGE}", *stages}
    assert re.fullmatch(r"nats:\d+\.\d+\.\d+", yaml.safe_load(COMPOSE.read_text())["services"]["nats"]["image"])
