"""Installing, applying again, runs while pods are killed, uninstalling and coming back. Tests run in this order."""

from __future__ import annotations

import pytest

from tests.blobs import Blobs
from tests.deploy.readme import commands
from tests.kubernetes.installation import Installation

RUN = "kubernetes"
pytestmark = pytest.mark.timeout(1800)


def test_a_second_apply_changes_nothing(installed: Installation) -> None:
    before = installed.versions()
    assert before
    installed.apply()
    assert installed.versions() == before


def test_a_diff_is_empty(installed: Installation) -> None:
    overlay = str(installed.folder / "overlay")
    assert installed.kubectl("diff", "--server-side", "--field-manager=labelloop", "-k", overlay) == ""


def test_each_user_of_the_broker_has_two_keys(installed: Installation) -> None:
    for user in ("trainer", "scorer", "oracle", "import"):
        assert installed.get("secret", f"nkey-{user}")["data"].keys() == {"seed", "public", "next-seed", "next-public"}


def start(installed: Installation, blobs: Blobs, run: str, *options: str) -> None:
    files = [installed.put(file) for file in (blobs.samples, blobs.labels)]
    pool = (files[0], "--labels", files[1], "--upload", "--budget", "100", "--batch-size", "5")
    installed.labelloop("run", "start", *pool, "--run-id", run, *options)


def test_a_run_ends_while_pods_are_killed(installed: Installation, blobs: Blobs) -> None:
    start(installed, blobs, RUN, "--no-watch")
    for name in ("scorer", "oracle", "trainer", "nats"):
        pod = installed.pods(name)[0]["metadata"]["name"]
        installed.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    installed.wait()
    installed.labelloop("run", "watch", RUN)
    assert len(installed.labels(RUN)) == 101


def test_deleting_the_overlay_and_applying_it_again_keeps_every_label(installed: Installation) -> None:
    before = installed.labels(RUN)
    keys = installed.get("secret", "nkey-oracle")["data"]
    installed.run_page(commands("Uninstall", "overlays/production"))
    installed.kubectl("wait", "--for=delete", "pod", "--all", "--timeout=5m")
    assert installed.get("persistentvolumeclaims")["items"]
    installed.apply()
    installed.wait()
    assert installed.get("secret", "nkey-oracle")["data"] == keys
    assert installed.labels(RUN) == before
