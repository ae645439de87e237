"""Wrong settings of the oracle, of its page and of its tools, are named first, and no secret is shown."""

from __future__ import annotations

import os

import pytest

from oracle_svc.settings_check import checked_settings

WEBHOOK = {"LABELLOOP_WEBHOOK_URL": "http://127.0.0.1:9/"}
SECRET = "whsec_" + "A" * 32


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"LABELLOOP_RESEND_S": "0"}, "LABELLOOP_RESEND_S: "),
        ({"LABELLOOP_REMOTE_POOLS": "ftp://x"}, "LABELLOOP_REMOTE_POOLS: 'ftp://x' "),
        ({"LABELLOOP_HTTP_PORT": "0"}, "set one of LABELLOOP_HTTP_TOKEN"),
        ({"LABELLOOP_HTTP_PORT": "0", "LABELLOOP_HTTP_TOKEN": "s3cret"}, "LABELLOOP_HTTP_TOKEN: "),
        ({"LABELLOOP_HTTP_PROXIES": "next door"}, "LABELLOOP_HTTP_PROXIES: "),
        (WEBHOOK, "LABELLOOP_WEBHOOK_SECRET: set it"),
        (
            {**WEBHOOK, "LABELLOOP_WEBHOOK_SECRET": SECRET},
            "webhook calls the oracle over HTTP: set LABELLOOP_HTTP_PORT",
        ),
        ({"LABELLOOP_LABEL_STUDIO_URL": "http://127.0.0.1:9/"}, "with a URL, LABELLOOP_LABEL_STUDIO_TOKEN must hold"),
        ({"LABELLOOP_LABEL_STUDIO_POLL_S": "0"}, "LABELLOOP_LABEL_STUDIO_POLL_S: "),
        ({"LABELLOOP_AMQP_URL": "http://kim:s3cret@x"}, "LABELLOOP_AMQP_URL: "),
        ({"LABELLOOP_SQS_REQUESTS_URL": "http://127.0.0.1:9/"}, "set both LABELLOOP_SQS_REQUESTS_URL and"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_named_first(
    settings: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("LABELLOOP_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        checked_settings()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(named)
    assert len(said.splitlines()) == 1
    assert "Value error" not in said
    assert "s3cret" not in said
