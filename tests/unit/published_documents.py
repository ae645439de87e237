"""A registry in which the references between the published documents resolve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from referencing import Registry, Resource
from schemas.json_schema import DIALECT


def registry(documents: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a registry of documents by the names of their files."""
    return Registry().with_resources(
        (name, Resource.from_contents({"$schema": DIALECT, **document})) for name, document in documents.items()
    )
