"""List the published documents, each as the text of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from schemas import asyncapi, openapi
from schemas.envelopes import envelopes
from schemas.json_schema import Schema
from schemas.messages import PUBLISHED, schema_of

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"


def documents() -> Mapping[str, Schema]:
    """Return the documents by the names of their files. Raises Undescribed, Undocumented."""
    messages = {each.file_name: schema_of(each) for each in PUBLISHED}
    return {**messages, **envelopes(), asyncapi.FILE: asyncapi.asyncapi(), openapi.FILE: openapi.openapi()}


def generated() -> dict[str, str]:
    """Return the texts of the files, by name. Raises Undescribed, Undocumented."""
    return {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in documents().items()}


def committed() -> dict[str, str]:
    """Return the texts of the files in the working tree, by name."""
    return {path.name: path.read_text() for path in FOLDER.glob("*.json")}


def stale() -> list[str]:
    """Return the names of files that are not what would be generated."""
    wanted, standing = generated(), committed()
    return sorted(name for name in wanted.keys() | standing.keys() if wanted.get(name) != standing.get(name))
