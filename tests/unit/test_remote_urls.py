"""URLs of pools that an oracle may fetch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.remote_urls import RemoteUrl, allowed_url, is_remote, parsed_prefixes, parsed_url
from labelloop.errors import InvalidInput

PREFIXES = parsed_prefixes("s3://our-bucket/sets/, https://Data.example.org/sets, http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "text",
    [
        "s3://our-bucket/sets/digits/x.npy",
        "S3://our-bucket/sets/digits",
        "s3://our-bucket/sets",
        "https://data.example.org/sets/x.npy",
        "https://DATA.example.org:443/sets/x%20y.npy",
        "http://127.0.0.1:8000/anything",
    ],
)
def test_urls_below_a_prefix_are_allowed(text: str) -> None:
    assert allowed_url(text, PREFIXES, "labels").scheme == text.partition(":")[0].lower()


@pytest.mark.parametrize(
    "text",
    [
        "s3://our-bucket/sets2/x.npy",
        "s3://our-bucket",
        "s3://our-bucket-2/sets/x.npy",
        "gs://our-bucket/sets/x.npy",
        "http://data.example.org/sets/x.npy",
        "https://data.example.org:8443/sets/x.npy",
        "https://data.example.org/other/x.npy",
        "https://data.example.org.evil.org/sets/x.npy",
        "https://data.example.org/SETS/x.npy",
        "http://127.0.0.1/x",
    ],
)
def test_other_urls_are_refused_by_the_setting_s_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^labels: .*outside.*LABELLOOP_REMOTE_POOLS") as refused:
        allowed_url(text, PREFIXES, "labels")
    assert refused.value.field == "labels"
    with pytest.raises(InvalidInput, match="reads none: ask its operator to set LABELLOOP_REMOTE_POOLS"):
        allowed_url(text, (), "labels")


@pytest.mark.parametrize(
    "text",
    [
        "s3://our-bucket/sets/../secret.npy",
        "s3://our-bucket/sets/%2e%2e/secret.npy",
        "s3://our-bucket/sets//x.npy",
        "s3://our-bucket/sets/x.npy?versionId=3",
        "s3://our-bucket\\sets/x.npy",
        "s3:///sets/x.npy",
        "s3://our-bucket//",
        "https://data.example.org/sets/%2E%2e/x.npy",
        "https://data.example.org/sets/%252e%252e/x.npy",
        "https://data.example.org/sets/..%2fx.npy",
        "https://data.example.org/sets/%ff.npy",
        "https://data.example.org/sets/x.npy#part",
        "https://data.example.org/sets/x.npy?X-Amz-Signature=1",
        "https://user:secret@data.example.org/sets/x.npy",
        "https://data.example.org@evil.org/sets/x.npy",
        "https://data.example.org:0/sets/x.npy",
        "https://data.example.org./sets/x.npy",
        "https://data.example.org/sets/\nx.npy",
        "https://data.example.org/sets/x%00.npy",
        "https://dätä.example.org/sets/x.npy",
        "file:///etc/passwd",
        "ftp://data.example.org/sets/x.npy",
        "s3://our-bucket/sets/" + "x" * 2_000,
    ],
)
def test_urls_that_may_mean_another_place_are_refused(text: str) -> None:
    assert is_remote(text)
    with pytest.raises(InvalidInput, match=r"^name: ") as refused:
        allowed_url(text, PREFIXES, "name")
    assert refused.value.reason == "BAD_URL"


@pytest.mark.parametrize("text", ["", "mnist", "/pools/x.npy", "C:/x.npy", "upload:abc", "s3:/bucket/x"])
def test_paths_are_no_urls(text: str) -> None:
    assert not is_remote(text)


def test_equal_urls_are_written_alike() -> None:
    assert str(parsed_url("HTTPS://Data.Example.org:443/a%20b/c/")) == "https://data.example.org/a%20b/c"
    assert str(parsed_url("s3://bucket/a b/c")) == "s3://bucket/a b/c"
    assert parsed_url("s3://bucket/") == parsed_url("s3://bucket") == RemoteUrl("s3", "bucket", 0, ())


def test_a_prefix_that_is_no_url_is_named() -> None:
    assert parsed_prefixes(" , ") == ()
    with pytest.raises(ValueError, match="'our-bucket/sets' is no URL"):
        parsed_prefixes("s3://ok,our-bucket/sets")


@given(st.sampled_from(["", "ours", "ours/"]), st.text(alphabet="./%2eE5cCfF\\ab@:?#\t", max_size=30))
def test_no_text_leads_out_of_a_prefix(begin: str, tail: str) -> None:
    prefix = parsed_prefixes("https://example.org/sets/ours")
    try:
        url = allowed_url(f"https://example.org/sets/{begin}{tail}", prefix, "name")
    except InvalidInput:
        return
    assert url.segments[:2] == ("sets", "ours")
    assert parsed_url(str(url)) == url
    assert not {"..", ".", ""} & {*url.segments}
