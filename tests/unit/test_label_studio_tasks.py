"""Conversion of requests to Label Studio tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.integrations import dispatcher
from oracle_svc.integrations.label_studio import client
from oracle_svc.integrations.label_studio.labeling_config import Control, config_of, find_control
from oracle_svc.integrations.label_studio.project import task_of

CONTROL = Control("label", "image", "picture", ("cat", "dog"))
LINK = "https://labels.example/samples/r/1?key=ab"


@pytest.mark.parametrize(
    ("sample", "shown"),
    [
        ({"content": b"png"}, "data:image/png;base64,cG5n"),
        ({"uri": LINK}, LINK),
        ({"uri": LINK, "content": b"png"}, LINK),
    ],
)
def test_a_task_shows_the_link_in_preference_to_content(sample: dict[str, object], shown: str) -> None:
    request = LabelRequest(request_id="r/0/1", media_type="image/png", **sample)  # type: ignore[arg-type]
    assert task_of(request, CONTROL)["data"]["picture"] == shown


def test_a_task_has_the_samples_name_unless_the_project_keeps_the_image_there() -> None:
    request = LabelRequest(request_id="r/0/1", media_type="image/png", uri=LINK, sample_name="pets/a.png")
    assert task_of(request, CONTROL)["data"]["name"] == "pets/a.png"
    assert task_of(request, replace(CONTROL, key="name"))["data"]["name"] == LINK
    request.sample_name = ""
    assert "name" not in task_of(request, CONTROL)["data"]


@pytest.mark.parametrize("sample", [{"content": b"npy"}, {"uri": LINK}])
def test_samples_that_are_not_images_are_refused(sample: dict[str, object]) -> None:
    request = LabelRequest(run_id="r", request_id="r/0/1", media_type="application/x-npy", **sample)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="images and texts"):
        task_of(request, CONTROL)


WORDS = Control("label", "text", "words", ("cat", "dog"), "Text")


def test_a_text_is_shown_as_it_is() -> None:
    text = "<b>bold</b> & אב 😀\n"
    request = LabelRequest(request_id="r/0/1", media_type="text/plain; charset=utf-8", content=text.encode())
    assert task_of(request, WORDS)["data"]["words"] == text


@pytest.mark.parametrize(
    ("media_type", "control", "said"),
    [
        ("text/plain; charset=utf-8", CONTROL, "need the tag Text, but the project shows Image"),
        ("image/png", WORDS, "need the tag Image, but the project shows Text"),
        ("text/plain; charset=utf-8", WORDS, "too large"),
    ],
)
def test_a_sample_that_the_project_cannot_show_is_refused(media_type: str, control: Control, said: str) -> None:
    request = LabelRequest(run_id="r", request_id="r/0/1", media_type=media_type, uri=LINK)
    with pytest.raises(InvalidInput, match=said):
        task_of(request, control)


@pytest.mark.parametrize("shows", ["Image", "Text"])
def test_a_configuration_is_found_again(shows: str) -> None:
    found = find_control(config_of(("cat", "<dog>"), shows))
    assert found == Control("label", shows.lower(), shows.lower(), ("cat", "<dog>"), shows)


def test_an_import_times_out_before_the_lease_of_its_requests() -> None:
    assert client._IMPORT_S < dispatcher._PUSH_S
