"""Links to the labelling page that `labelloop up --annotate` prints."""

from __future__ import annotations

import pytest
from labelloop_cli.local.page_links import own_address, page_links

HERE = "http://127.0.0.1:8080/?token=s%26t"


@pytest.mark.parametrize(
    ("environment", "here", "others"),
    [
        ({}, HERE, ""),
        ({"LABELLOOP_HTTP_HOST": "0.0.0.0"}, HERE, "http://10.1.2.3:8080/?token=s%26t"),
        ({"LABELLOOP_HTTP_HOST": "[::]"}, HERE, "http://10.1.2.3:8080/?token=s%26t"),
        ({"LABELLOOP_HOST": "0.0.0.0"}, HERE, "http://10.1.2.3:8080/?token=s%26t"),
        ({"LABELLOOP_HOST": "0.0.0.0", "LABELLOOP_HTTP_HOST": "127.0.0.1"}, HERE, ""),
        (
            {"LABELLOOP_HTTP_HOST": "10.9.9.9"},
            "http://10.9.9.9:8080/?token=s%26t",
            "http://10.9.9.9:8080/?token=s%26t",
        ),
        ({"LABELLOOP_HTTP_HOST": "::1"}, "http://[::1]:8080/?token=s%26t", ""),
        ({"LABELLOOP_HTTP_HOST": "localhost"}, "http://localhost:8080/?token=s%26t", ""),
        ({"LABELLOOP_HTTP_URL": "https://labels.example/a/"}, HERE, "https://labels.example/a/?token=s%26t"),
    ],
)
def test_links_lead_to_where_the_page_listens(environment: dict[str, str], here: str, others: str) -> None:
    assert page_links(environment, 8080, "s&t", lambda: "10.1.2.3") == (here, others)


def test_the_own_address_is_something_to_call_this_machine_by() -> None:
    assert own_address()
