"""Combine the options of ``labelloop run start`` with a spec file and with the defaults.

Options that were given win over the file, and the file wins over the defaults. Options and file become documents of the
same form first, so that both do the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import RunSpec

from labelloop_cli.commands.spec_options import SpecOptions
from labelloop_cli.run_spec.fields import Document, to_document
from labelloop_cli.run_spec.file import absolute

_CONTROL, _FIRST_BATCH = 10, 50  # defaults, except under the published protocol
_SECTIONS = ("queue", "guarantee", "stopping")  # messages that are unset unless something asks for them
_NO_PEOPLE = ("NO_PEOPLE", "settings for people have no effect here", "add --labels-from queue or --tool")
_NO_GUARANTEE = ("NO_GUARANTEE", "settings of a guarantee have no effect without one", "add --guarantee")


@cache
def field_paths() -> dict[str, str]:
    """Return the path of the spec's field or section that each option sets, by the option's name."""
    hints = get_type_hints(SpecOptions, include_extras=True)
    return {name: hint.__metadata__[-1] for name, hint in hints.items()}


def combined(options: SpecOptions, given: set[str], file: Document) -> Document:
    """Return the document of the run to start; its features may be ``auto``, its gold samples and its
    guidelines the path of a file.

    Args:
        options: Values of all options.
        given: Names of the options that the user gave; names of other parameters are ignored.
        file: The document of the spec file; empty without one.

    Without the name of a pool, the dataset has only what was given: it changes that of the run to continue.

    Raises:
        InvalidInput: If an option was given that would have no effect in this run.
    """
    chosen = _nested(options, given & field_paths().keys())
    chosen, file = _switched(options, chosen, file)
    asked = merged(file, chosen)
    if "stopping" in chosen and not any(asked["stopping"].values()):
        del asked["stopping"]
    unset = [name for name in _SECTIONS if name not in asked]
    whole = {name: value for name, value in merged(_defaults(), asked).items() if name not in unset}
    whole["dataset"] = _with_limit_seed(whole["dataset"]) if whole["dataset"]["name"] else asked.get("dataset", {})
    return whole | _dependent(whole, chosen, file)


def merged(below: Document, above: Document) -> Document:
    """Return ``below`` with the fields of ``above`` in place of its own, section by section."""
    both = {name for name in below.keys() & above.keys() if isinstance(below[name], dict)}
    return below | above | {name: below[name] | above[name] for name in both}


def _nested(options: SpecOptions, names: Iterable[str]) -> Document:
    """Return the document of the options ``names``, without those that have no value."""
    document: Document = {}
    for name in names:
        section, _, field = field_paths()[name].rpartition(".")
        value = _plain(name, getattr(options, name))
        if value is not None and name != "guarantee":
            (document.setdefault(section, {}) if section else document)[field] = value
    return document | ({"dataset": absolute(document["dataset"], Path.cwd())} if "dataset" in document else {})


def _plain(name: str, value: Any) -> Any:
    if name == "labels_from":
        return "queue" if value == "people" else value
    if name in ("classes", "columns"):
        return [each.strip() for each in value.split(",") if each.strip()]
    if name == "gold":
        return value or []
    if name == "guidelines":
        return value or ""
    return value


def _defaults() -> Document:
    return _nested(SpecOptions(), field_paths())


def _switched(options: SpecOptions, chosen: Document, file: Document) -> tuple[Document, Document]:
    """Return ``chosen`` with the sections that options switch on, and ``file`` without those that they switch off."""
    if "queue" in file:
        file = {"label_source": "queue"} | file
    elif file.get("label_source") == "queue" and not _is_complete(file):
        file = file | {"queue": {}}
    if chosen.get("queue", {}).get("tool"):
        chosen = chosen | {"label_source": "queue"}
    off = {"queue": chosen.get("label_source") == "dataset", "guarantee": options.guarantee is False}
    file = {name: value for name, value in file.items() if not off.get(name)}
    if chosen.get("label_source", file.get("label_source")) != "queue":
        chosen = _without_idle("queue", chosen, _NO_PEOPLE)
    elif "label_source" in chosen:
        chosen = {"queue": {}} | chosen
    if options.guarantee:
        chosen = {"guarantee": {}} | chosen
    elif "guarantee" not in file:
        chosen = _without_idle("guarantee", chosen, _NO_GUARANTEE)
    return chosen, file


def _is_complete(file: Document) -> bool:
    """Return whether a file has all fields, as those of printed specs have: defaults change nothing of it."""
    return to_document(RunSpec()).keys() <= file.keys()


def _without_idle(section: str, chosen: Document, error: tuple[str, str, str]) -> Document:
    """Return ``chosen`` without ``section``; raise InvalidInput if a value in it differs from its default."""
    settings = chosen.get(section, {})
    idle = [name for name in settings if settings[name] != _defaults()[section][name]]
    if idle:
        reason, message, advice = error
        raise InvalidInput(reason, f"{message} ({', '.join(map(_option, sorted(idle)))}): {advice}", field=section)
    return {name: value for name, value in chosen.items() if name != section}


def _option(field: str) -> str:
    """Return the option that sets a field of a section."""
    name = next(name for name, path in field_paths().items() if path.rpartition(".")[2] == field)
    return f"--{name.replace('_', '-')}"


def _dependent(whole: Document, chosen: Document, file: Document) -> Document:
    """Return the fields whose defaults depend on other fields."""
    published = whole["protocol"] == "published"
    if published:
        _check_as_published(chosen)
    first = whole.get("first_batch_size", 0 if published else _FIRST_BATCH)
    from_file = "first_batch_size" in file and "first_batch_size" not in chosen
    unused = {"stopping_sample_count": not published, "auto_label_batch_size": not whole["auto_label_budget"]}
    _check_used(chosen, unused)
    return {
        "control_percent": whole.get("control_percent", 0 if published else _CONTROL),
        "first_batch_size": first if from_file else min(first, whole["label_budget"]),
        "features": "pixels" if published and whole["features"] == "auto" else whole["features"],
        **{name: file.get(name, 0) for name, is_unused in unused.items() if is_unused},
    }


def _check_used(chosen: Document, unused: dict[str, bool]) -> None:
    """Raise InvalidInput if an option was given that has no effect without another."""
    needed = {
        "stopping_sample_count": ("--stop-on", "--protocol published"),
        "auto_label_batch_size": ("--auto-batch-size", "--auto-label"),
    }
    for field, (option, other) in needed.items():
        if unused[field] and field in chosen:
            message = f"{option} has no effect without {other}: add that, or leave {option} out"
            raise InvalidInput("NO_EFFECT", message, field=field)


def _with_limit_seed(dataset: Document) -> Document:
    """Return ``dataset`` with a seed for its limit: class folders are in order, so the first samples are of one class.

    MNIST is in random order, and the article uses its first samples.
    """
    drawn = dataset["sample_limit"] and dataset["name"] != "mnist"
    return {"limit_seed": int(bool(drawn))} | dataset


def _check_as_published(chosen: Document) -> None:
    """Raise InvalidInput if an option was given that the article's runs do not have."""
    foreign = {
        "control_percent": "--control",
        "first_batch_size": "--first-batch",
        "balance_classes": "--balance-classes",
    }
    for field, option in foreign.items():
        if chosen.get(field):
            message = f"the published protocol has no {option}: leave it out, or choose --protocol honest"
            raise InvalidInput("NOT_AS_PUBLISHED", message, field=field)
