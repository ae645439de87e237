"""Large samples, sent as signed links that any client can open."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import DatasetSource, Event, LabelSource, PoolPublished, RunCancelled
from pydantic import SecretStr

from oracle_svc.bootstrap import Oracle
from oracle_svc.domain.open_requests import OpenRequest
from oracle_svc.samples.encoding import picture_of
from oracle_svc.samples.requests import Samples
from oracle_svc.samples.signed_urls import SignedUrls, on_own_page
from oracle_svc.web.app import make_app
from oracle_svc.web.settings import WebSettings, from_environment
from tests.blobs import Blobs, write_blobs
from tests.published import artifacts_in, published
from tests.unused import UNUSED
from tests.web.asked_samples import ASKED, GOLD, OTHER, Log
from tests.web.conftest import TOKEN
from tests.web.fake_oracle import FakeOracle, FakeProjections

BASE = "https://labels.example/oracle"
SECRET = "a secret of links"
LINKS = SignedUrls(BASE, SECRET)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


@pytest.fixture
async def pool(blobs: Blobs, tmp_path: Path) -> PoolPublished:
    return await published(blobs.source(), tmp_path)


@pytest.fixture
def log(blobs: Blobs, pool: PoolPublished) -> Log:
    log = Log()
    log.begin("people", blobs.source(), LabelSource.LABEL_SOURCE_QUEUE, pool)
    log.begin("known", blobs.source(), LabelSource.LABEL_SOURCE_DATASET, pool)
    return log


def oracle(folder: Path, log: Log, links: SignedUrls | None) -> Oracle:
    """An oracle that shows pools published below ``folder``."""
    artifacts, samples_dir = artifacts_in(folder), folder / "cache"
    given = (UNUSED, artifacts, UNUSED, UNUSED, UNUSED)
    return Oracle(*given, links=links, samples_dir=samples_dir, projections=log.projections)


@pytest.fixture
async def anybody(log: Log, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the oracle without a cookie or a token."""
    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN), http_url=BASE, http_secret=SecretStr(SECRET))
    projections = FakeProjections()
    routes = oracle(tmp_path, log, settings.links).routes()
    app = make_app(FakeOracle(projections), projections, settings, routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://oracle") as client:
        yield client


def path(run_id: str, sample_id: int, links: SignedUrls = LINKS) -> str:
    return links.uri(run_id, sample_id).removeprefix(BASE)


async def test_a_link_shows_the_sample_to_any_page(anybody: httpx.AsyncClient, blobs: Blobs) -> None:
    answer = await anybody.get(path("people", ASKED), headers={"Origin": "https://label-studio.example"})
    expected = picture_of(np.load(blobs.samples)[ASKED])
    assert (answer.status_code, answer.content) == (200, expected.content)
    digest = hashlib.sha256(answer.content)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "no-store" not in answer.headers["cache-control"]


@pytest.mark.parametrize("known", ["{tag}", '"other", {tag}', "W/{tag}", "*"])
async def test_a_sample_that_a_browser_has_cached_is_not_sent_again(anybody: httpx.AsyncClient, known: str) -> None:
    tag = (await anybody.get(path("people", ASKED))).headers["etag"]
    again = await anybody.get(path("people", ASKED), headers={"If-None-Match": known.format(tag=tag)})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = await anybody.get(path("people", ASKED), headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


async def test_head_requests_return_headers_only_and_post_is_refused(anybody: httpx.AsyncClient) -> None:
    head = await anybody.head(path("people", ASKED))
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert (await anybody.post(path("people", ASKED))).status_code == 405


async def test_gold_samples_and_samples_of_ended_runs_are_shown(anybody: httpx.AsyncClient, log: Log) -> None:
    assert (await anybody.get(path("people", GOLD))).status_code == 200
    log.write(Event(run_id="people", run_cancelled=RunCancelled()))
    assert log.projections.get("people").over
    assert (await anybody.get(path("people", ASKED))).status_code == 200


@pytest.mark.parametrize(
    ("link", "key"),
    [
        (f"/samples/people/{ASKED}", None),
        (f"/samples/people/{ASKED}", ""),
        (f"/samples/people/{ASKED}", TOKEN),
        (f"/samples/people/{ASKED}", "ключ"),
        (f"/samples/people/{ASKED}", path("people", OTHER).partition("=")[2]),
        (f"/samples/people/{ASKED}", path("other", ASKED).partition("=")[2]),
        (f"/samples/people/{ASKED}", path("people", ASKED, SignedUrls(BASE, "another secret")).partition("=")[2]),
        (f"/samples/people/0{ASKED}", path("people", ASKED).partition("=")[2]),
        ("/samples/people/-1", path("people", ASKED).partition("=")[2]),
        ("/samples/people/" + "9" * 5000, path("people", ASKED).partition("=")[2]),
        ("/samples/people/%EF%BF", path("people", ASKED).partition("=")[2]),
    ],
)
async def test_a_wrong_key_is_refused(anybody: httpx.AsyncClient, link: str, key: str | None) -> None:
    answer = await anybody.get(link, params=None if key is None else {"key": key})
    assert (answer.status_code, answer.json()["reason"]) == (403, "BAD_KEY")
    assert "LABELLOOP_HTTP_SECRET" in answer.json()["message"]


@pytest.mark.parametrize(
    ("run_id", "sample_id", "reason"),
    [
        ("nobody", ASKED, "UNKNOWN_RUN"),
        ("known", ASKED, "NOT_ASKED_FOR"),
        ("people", OTHER, "NOT_ASKED_FOR"),
        ("people", 10**9, "NOT_ASKED_FOR"),
    ],
)
async def test_only_samples_requested_from_annotators_are_shown(
    anybody: httpx.AsyncClient, run_id: str, sample_id: int, reason: str
) -> None:
    answer = await anybody.get(path(run_id, sample_id))
    assert (answer.status_code, answer.json()["reason"]) == (404, reason)


async def test_people_see_what_was_published_whatever_becomes_of_the_files(
    anybody: httpx.AsyncClient, blobs: Blobs
) -> None:
    expected = picture_of(np.load(blobs.samples)[ASKED])
    np.save(blobs.samples, np.zeros((300, 6, 6), np.uint8))
    assert (await anybody.get(path("people", ASKED))).content == expected.content
    blobs.samples.unlink()
    assert (await anybody.get(path("people", ASKED))).content == expected.content


async def test_a_missing_pool_does_not_reveal_where_artifacts_are(
    anybody: httpx.AsyncClient, pool: PoolPublished, tmp_path: Path
) -> None:
    (tmp_path / "artifacts" / pool.pool_sha256).unlink()
    answer = await anybody.get(path("people", ASKED))
    assert (answer.status_code, answer.json()["reason"]) == (404, "SAMPLE_GONE")
    assert str(tmp_path) not in answer.text


async def test_only_samples_over_the_size_limit_are_sent_as_links(log: Log, blobs: Blobs, tmp_path: Path) -> None:
    labeling, ask = log.projections.get("people"), OpenRequest("people", 0, ASKED, 0, 1)
    picture, pools = picture_of(np.load(blobs.samples)[ASKED]), oracle(tmp_path, log, None).pools
    size = len(picture.content)
    linked = await Samples(pools, LINKS, size - 1).request(labeling, ask)
    assert (linked.uri, linked.content) == (LINKS.uri("people", ASKED), b"")
    for samples in (Samples(pools, LINKS, size), Samples(pools, None, 0)):
        whole = await samples.request(labeling, ask)
        assert (whole.uri, whole.content) == ("", picture.content)
    assert (linked.sha256, linked.media_type) == (picture.sha256, picture.media_type)


async def test_long_guidelines_are_sent_as_a_link(
    log: Log, blobs: Blobs, pool: PoolPublished, tmp_path: Path, anybody: httpx.AsyncClient
) -> None:
    long, short = "# Wörter\n" + "word " * 1_000, "Only <cats>."
    ask, pools = OpenRequest("guided", 0, ASKED, 0, 1), oracle(tmp_path, log, None).pools
    labeling = log.begin("guided", blobs.source(), LabelSource.LABEL_SOURCE_QUEUE, pool, long)
    request = await Samples(pools, LINKS).request(labeling, ask)
    assert (request.guidelines, request.guidelines_uri) == ("", LINKS.guidelines_uri("guided"))
    assert not (await Samples(pools, None).request(labeling, ask)).guidelines_uri
    answer = await anybody.get(request.guidelines_uri.removeprefix(BASE))
    assert (answer.status_code, answer.text) == (200, long)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    labeling = log.begin("brief", blobs.source(), LabelSource.LABEL_SOURCE_QUEUE, pool, short)
    request = await Samples(pools, LINKS).request(labeling, OpenRequest("brief", 0, ASKED, 0, 1))
    assert (request.guidelines, request.guidelines_uri) == (short, "")


async def test_links_of_samples_and_of_guidelines_open_nothing_else(anybody: httpx.AsyncClient) -> None:
    of_sample, of_guidelines = path("people", ASKED), LINKS.guidelines_uri("people").removeprefix(BASE)
    for link, key in ((of_guidelines, of_sample), (of_sample, of_guidelines)):
        answer = await anybody.get(link.partition("?")[0], params={"key": key.partition("=")[2]})
        assert (answer.status_code, answer.json()["reason"]) == (403, "BAD_KEY")
    answer = await anybody.get(of_guidelines)
    assert (answer.status_code, answer.json()["reason"]) == (404, "NO_GUIDELINES")


async def test_a_large_sample_is_encoded_like_a_small_one(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (10, 300, 300, 3), np.uint8)
    np.save(tmp_path / "large.npy", pixels)
    log = Log()
    source = DatasetSource(name=str(tmp_path / "large.npy"), classes=["a", "b"])
    labeling = log.begin("large", source, LabelSource.LABEL_SOURCE_QUEUE, await published(source, tmp_path))
    samples = Samples(oracle(tmp_path, log, None).pools, LINKS)
    assert (await samples.picture(labeling, ASKED)) == picture_of(pixels[ASKED])
    assert (await samples.request(labeling, OpenRequest("large", 0, ASKED, 0, 1))).uri
    with pytest.raises(NotFound, match="has 10 samples"):
        await samples.picture(labeling, 10)


def test_a_links_key_is_independent_of_the_base_url_and_hides_the_secret() -> None:
    link = SignedUrls("http://127.0.0.1:8080/", SECRET).uri("people", ASKED)
    assert link == LINKS.uri("people", ASKED).replace(BASE, "http://127.0.0.1:8080")
    assert SECRET not in link
    assert len(link.partition("=")[2]) == 64
    assert LINKS.uri("a b/c", 1).startswith(f"{BASE}/samples/a%20b%2Fc/1?key=")


def test_the_oracles_own_pages_use_relative_links_to_samples() -> None:
    assert on_own_page(LINKS.uri("people", 1), BASE + "/").startswith("/samples/people/1?key=")
    assert on_own_page("", BASE) == ""
    assert on_own_page("https://labels.example/other", BASE) == "https://labels.example/other"
    assert on_own_page("https://elsewhere.example/samples/1", "") == "https://elsewhere.example/samples/1"


SETTINGS = ("PORT", "URL", "SECRET", "TOKEN", "USER_HEADER")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"URL": BASE}, "LABELLOOP_HTTP_PORT"),
        ({"URL": BASE, "PORT": "0", "USER_HEADER": "X-User"}, "LABELLOOP_HTTP_SECRET"),
        ({"URL": BASE, "PORT": "0"}, "LABELLOOP_HTTP_TOKEN"),
    ],
)
def test_incomplete_link_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], problem: str
) -> None:
    set_up(monkeypatch, given)
    with pytest.raises(InvalidInput, match=problem):
        from_environment()


@pytest.mark.parametrize(
    ("name", "value"),
    [("URL", "labels.example"), ("URL", "https://labels.example/?a=b"), ("URL", "https:///x"), ("SECRET", "short")],
)
def test_invalid_link_settings_end_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    set_up(monkeypatch, {"URL": BASE, "PORT": "0", "TOKEN": TOKEN, name: value})
    with pytest.raises(SystemExit):
        from_environment()
    assert f"LABELLOOP_HTTP_{name}" in capsys.readouterr().err


def test_links_are_signed_with_the_secret_or_else_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for name, given in {
        "token": {"TOKEN": TOKEN},
        "both": {"TOKEN": TOKEN, "SECRET": SECRET},
        "header": {"USER_HEADER": "X-User", "SECRET": SECRET},
    }.items():
        set_up(monkeypatch, {"URL": BASE, "PORT": "0", **given})
        settings = from_environment()
        assert settings is not None
        assert SECRET not in repr(settings)
        assert settings.links is not None
        made[name] = settings.links.uri("people", ASKED)
    assert made["both"] == made["header"] == LINKS.uri("people", ASKED)
    assert made["token"] == SignedUrls(BASE, TOKEN).uri("people", ASKED)
    set_up(monkeypatch, {"PORT": "0", "TOKEN": TOKEN, "URL": ""})
    settings = from_environment()
    assert settings is not None
    assert settings.links is None


def set_up(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(f"LABELLOOP_HTTP_{name}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"LABELLOOP_HTTP_{name}", value)
