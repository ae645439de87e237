"""Options and a spec file combined: options take precedence over the file, and the file over defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import DatasetSource, LabelSource, RunSpec
from labelloop_cli.choices import AgreementName, FeaturesName, LabelSourceName, ProtocolName, StrategyName
from labelloop_cli.commands.spec_options import SpecOptions
from labelloop_cli.run_spec.fields import Document, to_document, to_spec
from labelloop_cli.run_spec.layers import combined, field_paths

QUEUE = {"label_source": "queue", "queue": {"annotators": 2}}
GUARANTEE = {"guarantee": {"target_accuracy": 0.9}}


def asked(file: Document | None = None, **options: Any) -> Document:
    return combined(replace(SpecOptions(), **options), {*options}, file or {})


def leaves(descriptor: Descriptor, path: str = "") -> set[str]:
    """Return the paths of all fields; a repeated message counts as one."""
    found: set[str] = set()
    for field in descriptor.fields:
        nested = None if field.is_repeated else field.message_type
        found |= leaves(nested, f"{path}{field.name}.") if nested else {path + field.name}
    return found


def test_every_field_of_a_spec_that_people_choose_has_an_option() -> None:
    assert {*field_paths().values()} - {"guarantee"} == leaves(RunSpec.DESCRIPTOR) - {
        "start_scale",
        "queue.resolution_version",
    }
    assert len({*field_paths().values()}) == len(field_paths())


def test_by_default_a_run_has_a_tenth_of_control_samples_and_no_dataset() -> None:
    document = asked()
    assert document["dataset"] == {}
    assert document["features"] == "auto"
    assert (document["control_percent"], document["first_batch_size"]) == (10, 50)
    assert (document["auto_label_batch_size"], document["stopping_sample_count"]) == (0, 0)
    assert not {"queue", "guarantee", "stopping"} & document.keys()


def test_fields_missing_in_a_file_get_the_defaults_of_the_options() -> None:
    assert asked({"seed": 3}) == asked(seed=3)
    assert asked(GUARANTEE) == asked(guarantee=True, guarantee_target=0.9)
    assert asked(QUEUE) == asked(labels_from=LabelSourceName.queue, annotators=2)
    assert asked({"protocol": "published"}) == asked(protocol=ProtocolName.published)


def test_predictions_are_hidden_unless_they_are_to_be_shown() -> None:
    people = LabelSourceName.queue
    assert asked(labels_from=people)["queue"]["hide_predictions"] is True
    assert asked({"label_source": "queue"})["queue"]["hide_predictions"] is True
    assert asked(QUEUE)["queue"]["hide_predictions"] is True
    assert asked(labels_from=people, hide_predictions=False)["queue"]["hide_predictions"] is False
    assert asked({"queue": {"hide_predictions": False}})["queue"]["hide_predictions"] is False


def test_the_printed_spec_of_an_earlier_run_shows_predictions_as_that_run_did() -> None:
    spec = RunSpec(label_source=LabelSource.LABEL_SOURCE_QUEUE, dataset=DatasetSource(name="mnist"))
    assert not to_spec(asked(to_document(spec))).queue.hide_predictions
    spec.queue.annotators = 2
    assert not to_spec(asked(to_document(spec))).queue.hide_predictions


def test_an_option_takes_precedence_over_the_file_even_at_its_default() -> None:
    file = {"strategy": "margin", "seed": 3, "features": "patches", "dataset": {"name": "/pool.npy", "sample_limit": 9}}
    document = asked(file, seed=0, limit=0, strategy=StrategyName.badge, features=FeaturesName.auto)
    assert (document["seed"], document["strategy"], document["features"]) == (0, "badge", "auto")
    assert (document["dataset"]["name"], document["dataset"]["sample_limit"]) == ("/pool.npy", 0)


def test_without_a_pool_the_dataset_has_only_what_was_given() -> None:
    assert asked(limit=5)["dataset"] == {"sample_limit": 5}
    assert asked({"dataset": {"labels": "/l.npy"}}, limit=5)["dataset"] == {"labels": "/l.npy", "sample_limit": 5}
    assert asked(dataset="/pool.npy")["dataset"]["skip_bad"] is False


def test_options_add_to_a_section_of_the_file() -> None:
    document = asked(QUEUE | GUARANTEE, agreement=AgreementName.dawid_skene, audit=500)
    assert (document["queue"]["annotators"], document["queue"]["agreement"]) == (2, "dawid-skene")
    assert (document["guarantee"]["target_accuracy"], document["guarantee"]["audit_size"]) == (0.9, 500)


def test_options_can_switch_off_a_section_of_the_file() -> None:
    stopping = {"stopping": {"stable_rounds": 3}}
    document = asked(
        QUEUE | GUARANTEE | stopping, labels_from=LabelSourceName.dataset, guarantee=False, stop_when_stable=0
    )
    assert not {"queue", "guarantee", "stopping"} & document.keys()


def test_naming_a_tool_sets_the_label_source_to_the_queue() -> None:
    document = asked({"label_source": "dataset"}, tool="webhook")
    assert (document["label_source"], document["queue"]["tool"]) == ("queue", "webhook")


def test_a_queue_section_in_the_file_sets_the_label_source_to_the_queue() -> None:
    assert asked({"queue": {"annotators": 2}}) == asked(QUEUE)
    assert asked({"queue": {"annotators": 2}}, labels_from=LabelSourceName.dataset) == asked()


def test_paths_in_options_are_resolved_against_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = asked(dataset="pool.npy", labels="/labels.npy")["dataset"]
    assert (dataset["name"], dataset["labels"], dataset["graph"]) == (str(tmp_path / "pool.npy"), "/labels.npy", "")


def test_the_first_batch_is_capped_at_the_budget_unless_the_file_sets_it() -> None:
    assert asked(budget=20)["first_batch_size"] == 20
    assert asked(budget=20, first_batch=30)["first_batch_size"] == 20
    assert asked({"first_batch_size": 30}, budget=20)["first_batch_size"] == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"annotators": 2}, "--labels-from queue"),
        ({"hide_predictions": False, "labels_from": LabelSourceName.dataset}, "--tool"),
        ({"audit": 100}, "--guarantee"),
        ({"guarantee_target": 0.9, "guarantee": False}, "--guarantee"),
        ({"protocol": ProtocolName.published, "control": 5}, "--control"),
        ({"protocol": ProtocolName.published, "first_batch": 5}, "--first-batch"),
        ({"protocol": ProtocolName.published, "balance_classes": True}, "--balance-classes"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        asked(**options)


def test_an_option_without_effect_is_accepted_at_its_default() -> None:
    assert asked(annotators=1, audit=0, tool="") == asked()


def test_names_of_uploads_are_no_paths() -> None:
    dataset = asked(dataset="upload:ab/pool.npy", labels="upload:cd", evaluation="test.npy")["dataset"]
    assert (dataset["name"], dataset["labels"]) == ("upload:ab/pool.npy", "upload:cd")
    assert dataset["evaluation"] == str(Path.cwd() / "test.npy")


def test_urls_are_not_made_absolute() -> None:
    urls: dict[str, Any] = {
        "dataset": "s3://bucket/pool",
        "labels": "https://example.org/y.npy",
        "graph": "gs://bucket/g.onnx",
    }
    dataset = asked(**urls, evaluation="test.npy")["dataset"]
    assert (dataset["name"], dataset["labels"], dataset["graph"]) == tuple(urls.values())
    assert dataset["evaluation"] == str(Path.cwd() / "test.npy")
