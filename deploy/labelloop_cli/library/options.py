"""Declare the options of :meth:`Client.start`: those of ``labelloop run start``, under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypedDict, get_args, get_type_hints

from labelloop.errors import InvalidInput

from labelloop_cli.commands.spec_options import SpecOptions
from labelloop_cli.run_spec.fields import Document
from labelloop_cli.run_spec.layers import combined, merged

AnyPath = str | PathLike[str]
_LISTS = {"classes", "columns"}
_FILES = {"guidelines", "gold"}


class RunOptions(TypedDict, total=False):
    """Options of a run. ``labelloop run start --help`` says what each means, and its default.

    ``classes`` and ``columns`` are sequences of names; ``guidelines`` and ``gold`` are paths of files.
    """

    labels: AnyPath
    evaluation: AnyPath
    evaluation_labels: AnyPath
    classes: Sequence[str]
    limit: int
    limit_seed: int
    size: str
    fit: str
    background: str
    skip_bad: bool
    id_column: str
    label_column: str
    text_column: str
    columns: Sequence[str]
    graph: AnyPath
    embeddings: AnyPath
    evaluation_embeddings: AnyPath
    features: str
    strategy: str
    first: str
    batch_size: int
    first_batch: int
    control: int
    seed: int
    labels_from: str
    tool: str
    annotators: int
    annotators_max: int
    agreement: str
    deadline: int
    hide_predictions: bool
    guidelines: AnyPath
    gold: AnyPath
    budget: int
    stop_at: float
    stop_when_stable: int
    stop_on_plateau: int
    label_price: float
    point_worth: float
    guarantee: bool
    guarantee_target: float
    guarantee_confidence: float
    audit: int
    auto_label: int
    auto_batch_size: int
    protocol: str
    balance_classes: bool
    stop_on: int
    report_every: int


def document_of(pool: str, options: Mapping[str, Any], file: Document) -> Document:
    """Return the document of the run that ``options`` describe, with the defaults of the command.

    Raises InvalidInput that names every option which does not exist or has a value of the wrong type.
    """
    hints = get_type_hints(SpecOptions)
    faults = [_unknown(name) for name in options if name not in hints or name == "dataset"]
    faults += [
        fault for name, value in options.items() if name in hints and (fault := _fault(name, value, hints[name]))
    ]
    if faults:
        raise InvalidInput("BAD_OPTIONS", "; ".join(faults), field="options")
    lists = {name: [*value] for name, value in options.items() if name in _LISTS}
    plain: dict[str, Any] = {name: _plain(name, value) for name, value in options.items() if name not in _LISTS}
    plain |= {"dataset": pool} if pool else {}
    document = combined(SpecOptions(**plain), {*plain}, file)
    return merged(document, {"dataset": lists}) if lists else document


def _plain(name: str, value: Any) -> Any:
    if name in _FILES:
        return Path(value)
    return fspath(value) if isinstance(value, PathLike) else value


def _unknown(name: str) -> str:
    return f"{name}: there is no such option; help(labelloop.RunOptions) lists them"


def _fault(name: str, value: Any, hint: Any) -> str:
    """Return what is wrong with the type of an option's value; empty if nothing is."""
    if name in _LISTS:
        whole = (
            not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(each, str) for each in value)
        )
        return "" if whole else f"{name}: must be a sequence of names, not {value!r}"
    kinds = get_args(hint) or (hint,)
    for kind, accepted, said in (
        (bool, bool, "True or False"),
        (int, int, "a whole number"),
        (float, (int, float), "a number"),
    ):
        if kind in kinds:
            fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
            return "" if fits else f"{name}: must be {said}, not {value!r}"
    return "" if isinstance(value, (str, PathLike)) else f"{name}: must be text or a path, not {value!r}"
