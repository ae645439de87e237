"""Read run specs from YAML and JSON files, and write them as YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from labelloop.artifacts.upload_manifest import PREFIX
from labelloop.domain.remote_urls import is_remote
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import RunSpec

from labelloop_cli.run_spec.fields import Document, to_document, to_spec
from labelloop_cli.run_spec.yaml_subset import Dumper, Loader

BYTES_MAX = 1024 * 1024
PATHS = ("name", "labels", "evaluation", "evaluation_labels", "graph", "embeddings", "evaluation_embeddings")


def write_spec(spec: RunSpec) -> str:
    """Return ``spec`` as YAML with all its fields, so that later defaults do not change it."""
    return yaml.dump(to_document(spec), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def read_spec(path: Path) -> Document:
    """Read a document whose fields may be a part of RunSpec's; relative paths in it start from the file's folder.

    ``features: auto`` is kept as it is: only the dataset decides what it means.

    Raises:
        NotFound: If there is no file.
        InvalidInput: If it is too large, cannot be parsed, or has an unknown field or a value of the wrong type.
    """
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    document: Document = _parse(path, _text(path))
    try:
        to_spec(without_auto(document))  # which also refuses what is no mapping
    except InvalidInput as error:
        raise InvalidInput(error.reason, f"{path}: {error.message}", field=error.field) from error
    if "dataset" in document:
        document["dataset"] = absolute(document["dataset"], path.absolute().parent)
    return document


def without_auto(document: Any) -> Any:
    """Return ``document`` without ``features: auto``, which is no value of RunSpec."""
    if isinstance(document, dict) and document.get("features") == "auto":
        return {name: value for name, value in document.items() if name != "features"}
    return document


def absolute(dataset: Document, folder: Path) -> Document:
    """Return ``dataset`` with paths that do not depend on ``folder``, because the oracle runs in another one."""
    return dataset | {name: _absolute(dataset[name], folder) for name in PATHS if name in dataset}


def _absolute(name: str, folder: Path) -> str:
    is_name = name in ("", "mnist") or name.startswith(PREFIX) or is_remote(name)  # of a pool that is no path
    is_fixed = is_name or Path(name).is_absolute()
    return name if is_fixed else str(folder / name)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, f"cannot be read as text in UTF-8: {error}") from error
    if len(data) > BYTES_MAX:
        raise _unreadable(path, f"is larger than {BYTES_MAX} bytes: a spec is a short file, is this one?")
    return text


def _parse(path: Path, text: str) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _unreadable(path, f"cannot be parsed as YAML: {line}{error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(path, f"cannot be parsed: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise _unreadable(path, "is nested too deeply: a spec has two levels") from error


def _unique(pairs: list[tuple[str, Any]]) -> Document:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError(f"a field is there twice among {', '.join(name for name, _ in pairs)[:200]}")
    return document


def _unreadable(path: Path, message: str) -> InvalidInput:
    return InvalidInput("BAD_SPEC_FILE", f"{path} {message}", path=path)
