"""Run specs as files: a spec that is written is read back equal, and an error names its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import example, given
from hypothesis import strategies as st
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import DatasetSource, QueueSpec, RunSpec
from labelloop_cli import run_spec
from labelloop_cli.commands.spec_options import SpecOptions
from labelloop_cli.run_spec.fields import to_document, to_spec
from labelloop_cli.run_spec.file import BYTES_MAX, read_spec, without_auto, write_spec
from labelloop_cli.run_spec.file import PATHS as FILE_PATHS
from labelloop_cli.run_spec.layers import combined

VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: st.text() | st.sampled_from(["no", "007", "1e5", "2026-11-29", "~", "=", "<<"]),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
PATHS = st.sampled_from(["", "mnist", "/pool.npy", "/a//b/../c", "/no"])


def messages(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Return arguments for a message's constructor; nested messages may be unset."""
    always = {field.name: values(field) for field in descriptor.fields if not field.message_type}
    return st.fixed_dictionaries(
        always, optional={field.name: values(field) for field in descriptor.fields if field.message_type}
    )


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type:
        one: st.SearchStrategy[Any] = messages(field.message_type)
    elif field.enum_type:
        one = st.sampled_from(sorted(field.enum_type.values_by_number))
    elif field.name in FILE_PATHS:
        one = PATHS
    else:
        one = VALUES[field.cpp_type]
    return st.lists(one, max_size=3) if field.is_repeated else one


def chosen(fields: dict[str, Any]) -> RunSpec:
    """Return the spec, with a dataset, as every run has, and without what the trainer sets when a run starts."""
    spec = RunSpec(**{"dataset": {}, **fields})
    if spec.HasField("queue"):
        spec.queue.ClearField("resolution_version")
    return spec


SPECS = messages(RunSpec.DESCRIPTOR).map(chosen)


def started(path: Path) -> RunSpec:
    """Return the spec that ``run start -f`` makes of a file, without other options."""
    return to_spec(without_auto(combined(SpecOptions(), set(), read_spec(path))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")


@given(spec=SPECS)
@example(spec=RunSpec(dataset=DatasetSource(), queue=QueueSpec(tool="\x85")))
@example(spec=RunSpec(dataset=DatasetSource(classes=["\u2028", " a\rb\n", "\ufeff"])))
def test_a_spec_that_is_printed_as_yaml_is_read_back_equal(folder: Path, spec: RunSpec) -> None:
    path = folder / "spec.yaml"
    path.write_text(write_spec(spec), encoding="utf-8")
    assert started(path) == spec


@given(spec=SPECS)
def test_a_spec_that_is_printed_as_json_is_read_back_equal(folder: Path, spec: RunSpec) -> None:
    path = folder / "spec.json"
    path.write_text(json.dumps(to_document(spec)), encoding="utf-8")
    assert started(path) == spec


def test_relative_paths_are_resolved_against_the_files_folder(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("dataset:\n  name: pool.npy\n  labels: /elsewhere/labels.npy\n  graph: ''\n")
    dataset = read_spec(path)["dataset"]
    assert dataset == {"name": str(tmp_path / "pool.npy"), "labels": "/elsewhere/labels.npy", "graph": ""}


def test_scalars_are_read_as_yaml_1_2_defines_them(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("dataset: {classes: [yes, no, off]}\nstopping: {label_price: 1e-2, point_worth: 3}\n")
    document = read_spec(path)
    assert document["dataset"]["classes"] == ["yes", "no", "off"]
    assert document["stopping"] == {"label_price": 0.01, "point_worth": 3}


def test_the_example_in_the_readme_can_be_started(tmp_path: Path) -> None:
    readme = Path(run_spec.__file__).parents[1] / "README.md"
    path = tmp_path / "spec.yaml"
    path.write_text(readme.read_text().split("```yaml\n")[1].split("```")[0])
    spec = started(path)
    assert spec.dataset.name == str(tmp_path / "pool.npy")
    assert (spec.label_budget, spec.queue.annotators, spec.stopping.stable_rounds) == (500, 2, 3)
    assert not spec.HasField("guarantee")


FAULTS = {
    "budget: 3": "budget: there is no such field: use dataset, strategy",
    "queue: {people: 3}": "queue.people: there is no such field: use tool, annotators",
    "7: seven": "7: there is no such field",
    "seed: many": "seed: must be a whole number from 0 to 18446744073709551615, not 'many'",
    "batch_size: -1": "batch_size: must be a whole number from 0 to 4294967295, not -1",
    "batch_size: true": "batch_size: must be a whole number",
    "batch_size: 2.5": "batch_size: must be a whole number",
    "strategy: psychic": "strategy: must be one of in-order, random",
    "strategy: [margin]": "strategy: must be one of",
    "dataset: pool.npy": "dataset: must hold fields, not 'pool.npy': write name, labels",
    "dataset: {classes: [0, 1]}": "dataset.classes[0]: must be text (put numbers, true and false in quotes), not 0",
    "dataset: {classes: cat}": "dataset.classes: must be a list, not 'cat'",
    'dataset: {name: "\\ud800"}': "dataset.name: must be text",
    "queue: {hide_predictions: maybe}": "queue.hide_predictions: must be true or false",
    "queue: {gold: [{sample_id: 1, class: 2}]}": "queue.gold[0].class: there is no such field: use sample_id, label",
    "stopping: {label_price: cheap}": "stopping.label_price: must be a number, not 'cheap'",
    "guarantee:": "guarantee: must hold fields, not empty (leave the field out, or write {} for a section)",
    "": "the spec: must hold fields, not empty",
    "- seed": "the spec: must hold fields, not a list",
    "seed: 1\nseed: 2": "line 2: seed is there twice",
    "a: &a [x]\nb: [*a, *a]": "line 1: a spec has no anchors (&, *)",
    "seed: *a": "line 1: a spec has no anchors (&, *)",
    "seed: !!int x": "line 1: a spec has no tags (!)",
    "seed: !!python/object:os.system 1": "line 1: a spec has no tags (!)",
    "seed: 1\n\tstrategy: x": "line 2",
    "seed: 1\n---\nseed: 2": "line 2",
    "[a]: 1": "unhashable",
    "? {a: 1}\n: 2": "unhashable",
    "seed: \x07": "cannot be parsed",
    "[" * 100_000: "nested too deeply",
    "seed: " + "9" * 5_000: "cannot be parsed",
}


@pytest.mark.parametrize(("text", "said"), FAULTS.items(), ids=[repr(text[:30]) for text in FAULTS])
def test_an_error_names_the_file_and_the_place_in_it(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as raised:
        read_spec(path)
    assert said in raised.value.message
    assert str(path) in raised.value.message
    assert "\n" not in raised.value.message


JSON_FAULTS = {
    '{"seed": 1,}': "line 1",
    '{"seed": 1, "seed": 2}': "twice",
    "[" * 100_000: "nested too deeply",
    '{"seed": ' + "9" * 5_000 + "}": "cannot be parsed",
    '{"stopping": {"label_price": 1' + "0" * 400 + "}}": "must be a number",
}


@pytest.mark.parametrize(("text", "said"), JSON_FAULTS.items(), ids=[repr(text[:30]) for text in JSON_FAULTS])
def test_an_error_in_json_names_its_cause(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_spec(path)


@pytest.mark.parametrize("data", [b"seed: 1 #" + b"x" * BYTES_MAX, b"\xff\xfe"], ids=["too large", "not UTF-8"])
def test_files_that_are_too_large_or_not_utf_8_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"spec\.yaml"):
        read_spec(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        read_spec(tmp_path / "spec.yaml")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_spec(tmp_path)
