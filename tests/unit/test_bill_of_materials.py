"""Bills of materials of the images: CycloneDX, complete or said to be incomplete, the same for the same parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from environments import sbom
from environments.pinned import LOCKS_OF_IMAGES, locks_of, pins

from tests.docker.supplies import ROOT

STATUS = (
    "Package: libstdc++6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12.2.0-14+deb12u1\n\n"
    "Package: tzdata\nArchitecture: all\nVersion: 2025b-0+deb12u2\nDescription: time zones\n of the world\n\n"
)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def written(folder: Path) -> dict[str, dict[str, Any]]:
    sbom.main(folder)
    return {image: json.loads((folder / f"{image}.cdx.json").read_text()) for image in LOCKS_OF_IMAGES}


def test_every_library_of_an_image_has_version_purl_and_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "debian_status", lambda image: (STATUS, ""))
    for image, bill in written(tmp_path).items():
        libraries = {each["purl"]: each for each in bill["components"] if each["purl"].startswith("pkg:pypi/")}
        assert libraries.keys() == {pin.purl for pin in pins(locks_of(image))}
        assert all(each["version"] and each["hashes"] for each in libraries.values())
        references = [each["bom-ref"] for each in bill["components"]]
        assert len(references) == len(set(references))
        assert "properties" not in bill["metadata"]


def test_packages_of_debian_are_listed_with_their_architecture() -> None:
    assert [each["purl"] for each in sbom.debian_packages(STATUS)] == [
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
        "pkg:deb/debian/tzdata@2025b-0%2Bdeb12u2?arch=all",
    ]


def test_a_bill_without_packages_of_debian_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    [about] = written(tmp_path)["scorer"]["metadata"]["properties"]
    assert about["name"] == "labelloop:incomplete"
    assert about["value"].startswith("without packages of Debian: ")
    assert capsys.readouterr().out.count("without packages of Debian: ") == len(LOCKS_OF_IMAGES)


def test_the_same_parts_give_the_same_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "debian_status", lambda image: (STATUS, ""))
    first = written(tmp_path)
    assert written(tmp_path) == first
    monkeypatch.setattr(sbom, "debian_status", lambda image: (STATUS.replace("2025b", "2026a"), ""))
    numbers = {image: bill["serialNumber"] for image, bill in first.items()}
    assert len({*numbers.values(), *(bill["serialNumber"] for bill in written(tmp_path).values())}) == 8
