"""The alerts and the dashboard, checked by a real Prometheus that scrapes real services."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest
from labelloop_cli.local.nats.server import NatsServer

from tests.blobs import IMAGE_BYTES, spec, write_blobs
from tests.e2e.driving import finish, start
from tests.e2e.stopping import until
from tests.integration.prometheus import (
    COMPONENT,
    Prometheus,
    alerts,
    dashboard,
    dashboard_expressions,
    exposed_names,
    names_in,
    promtool,
    rules,
    running,
)
from tests.integration.test_metrics import BY_PEOPLE, answer_a_batch
from tests.integration.watched import Watched, page, watched

WEEK_S = 7 * 86_400
# Not told by services without TLS, or not by services.
ELSEWHERE = {"labelloop_certificate_end_seconds", "certmanager_certificate_expiration_timestamp_seconds"}
SEVERITIES = {"critical", "warning"}


def series(metric: str, values: str, /, **labels: str) -> dict[str, str]:
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{metric}{{{told}}}", "values": values}


def up(*services: str) -> list[dict[str, str]]:
    """Series of services that started once and keep running."""
    return [series("labelloop_start_time_seconds", "1000x200", service=each, instance=each) for each in services]


def calls(method: str, code: str, values: str) -> dict[str, str]:
    return series("labelloop_grpc_calls_total", values, method=method, code=code)


ALL_UP = up("trainer", "scorer", "oracle")
# Series with a value a minute, a minute at which the alert fires, one at which it does not, and its labels.
CASES: dict[str, tuple[list[dict[str, str]], int, int, dict[str, str]]] = {
    "LabelloopServiceDown": (
        [*up("trainer", "oracle"), series("labelloop_start_time_seconds", "1x4 stale", service="scorer")],
        *(8, 4),
        {"service": "scorer"},
    ),
    "LabelloopServiceRestarting": (
        [*up("scorer", "oracle"), series("labelloop_start_time_seconds", "1x9 2 3 4x20", service="trainer")],
        *(14, 9),
        {"service": "trainer"},
    ),
    "LabelloopWorkersDying": (
        [*ALL_UP, series("labelloop_worker_restarts_total", "0x9 1 2 3 4x60", instance="scorer")],
        *(14, 9),
        {"instance": "scorer"},
    ),
    "LabelloopRunHeldUp": ([*ALL_UP, series("labelloop_run_held_up", "_x9 1x20", run="r")], 16, 13, {"run": "r"}),
    "LabelloopLabelsLate": (
        [*ALL_UP, series("labelloop_oldest_request_age_seconds", "0+60x30", source="dataset")],
        *(8, 4),
        {},
    ),
    "LabelloopQueueOld": (
        [*ALL_UP, series("labelloop_oldest_request_age_seconds", "85000+600x30", source="queue")],
        *(10, 2),
        {},
    ),
    "LabelloopDeadLetters": (
        [*ALL_UP, series("labelloop_dead_letters", "0x9 1x100", tool="nats", instance="oracle")],
        *(12, 9),
        {"tool": "nats"},
    ),
    "LabelloopToolAway": (
        [
            *ALL_UP,
            series("labelloop_tool_away", "0x9 1x30", tool="webhook", direction="requests", instance="a"),
            series("labelloop_tool_away", "0x40", tool="webhook", direction="requests", instance="b"),
        ],
        *(16, 13),
        {"tool": "webhook", "direction": "requests"},
    ),
    "LabelloopEventPassedOver": (
        [*ALL_UP, series("labelloop_events_passed_over_total", "0x9 1x100", why="unreadable")],
        *(12, 9),
        {"why": "unreadable"},
    ),
    "LabelloopAppendsFailing": (
        [*ALL_UP, series("labelloop_append_failures_total", "0x9 1+1x30", instance="trainer")],
        *(18, 12),
        {"instance": "trainer"},
    ),
    "LabelloopWaiting": (
        [*ALL_UP, series("labelloop_waiting_seconds", "0x9 10+60x30", instance="trainer", what="the broker")],
        *(15, 10),
        {"instance": "trainer", "what": "the broker"},
    ),
    "LabelloopFollowingAnew": (
        [*ALL_UP, series("labelloop_followings_anew_total", "0x9 1+1x30", instance="trainer")],
        *(20, 11),
        {"instance": "trainer"},
    ),
    "LabelloopCertificateEnds": (
        [*ALL_UP, series("labelloop_certificate_end_seconds", f"{WEEK_S + 600}x60", certificate="oracle", pod="a")],
        *(17, 14),
        {"certificate": "oracle"},
    ),
    "LabelloopLoopHeld": (
        [*ALL_UP, series("labelloop_event_loop_lag_seconds", "0x9 0.6x20", instance="scorer")],
        *(13, 11),
        {"instance": "scorer"},
    ),
    "LabelloopCallsFailing": (
        [*ALL_UP, calls("Score", "OK", "0+60x60"), calls("Score", "UNKNOWN", "0x9 0+6x60")],
        *(25, 9),
        {"method": "Score"},
    ),
    "LabelloopOverloaded": (
        [*ALL_UP, calls("Score", "OK", "0+60x60"), calls("Score", "RESOURCE_EXHAUSTED", "0x9 0+600x60")],
        *(25, 9),
        {"method": "Score"},
    ),
    **{
        alert: (
            [
                *ALL_UP,
                series("labelloop_grpc_call_seconds_bucket", "0+60x60", method=method, le="0.05"),
                series("labelloop_grpc_call_seconds_bucket", "0+60x20 1200+90x60", method=method, le="10.0"),
                series("labelloop_grpc_call_seconds_bucket", "0+60x20 1200+90x60", method=method, le="+Inf"),
            ],
            *(40, 19),
            {},
        )
        for alert, method in (("LabelloopRankingSlow", "RankPool"), ("LabelloopScoringSlow", "Score"))
    },
}


def firing(alert: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    return {"exp_labels": {"severity": alert["labels"]["severity"], **labels}}


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    """The file that Prometheus's operator makes of alerts.yaml, without annotations, which tests would repeat."""
    made = rules()
    for group in made["groups"]:
        for rule in group["rules"]:
            rule["annotations"] = {}
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(made))
    return file


def test_the_rules_are_sound(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules()))
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(file))


def test_each_alert_has_a_summary_a_description_and_a_runbook_link() -> None:
    assert {alert["alert"] for alert in alerts()} == CASES.keys()
    for alert in alerts():
        assert alert["labels"]["severity"] in SEVERITIES
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"deploy/README.md#{alert['alert'].lower()}"


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_not_before(tmp_path: Path, rule_file: Path, name: str) -> None:
    seen, fires_at, quiet_at, labels = CASES[name]
    [alert] = [alert for alert in alerts() if alert["alert"] == name]
    at = [(fires_at, [firing(alert, labels)]), (quiet_at, [])]
    expected = [{"eval_time": f"{minute}m", "alertname": name, "exp_alerts": each} for minute, each in at]
    tests = [{"interval": "1m", "input_series": seen, "alert_rule_test": expected}]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


@pytest.mark.parametrize("label", ["namespace", "exported_namespace"])
def test_a_certificate_that_only_cert_manager_knows_raises_the_alert(
    tmp_path: Path, rule_file: Path, label: str
) -> None:
    """As Prometheus names the label with and without honorLabels."""
    [alert] = [alert for alert in alerts() if alert["alert"] == "LabelloopCertificateEnds"]
    name = "certmanager_certificate_expiration_timestamp_seconds"
    seen = [
        series(name, f"{WEEK_S + 600}x60", name="client", **{label: "labelloop"}),
        series(name, f"{WEEK_S + 600}x60", name="shop", **{label: "somebody-else"}),
        series("labelloop_certificate_end_seconds", f"{90 * 86_400}x60", certificate="oracle"),
    ]
    fires = {"eval_time": "17m", "alertname": alert["alert"], "exp_alerts": [firing(alert, {"certificate": "client"})]}
    tests = [{"interval": "1m", "input_series": seen, "alert_rule_test": [fires]}]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_no_alert_fires_in_normal_operation(tmp_path: Path, rule_file: Path) -> None:
    quiet = [
        *ALL_UP,
        calls("Score", "OK", "0+60x200"),
        calls("Score", "NOT_FOUND", "0+30x200"),
        series("labelloop_oldest_request_age_seconds", "0+60x200", source="queue"),
        series("labelloop_events_passed_over_total", "3x200", why="unreadable"),
        series("labelloop_dead_letters", "0x200", tool="nats", instance="oracle"),
        series("labelloop_certificate_end_seconds", f"{30 * 86_400}x200", certificate="oracle"),
        series("labelloop_followings_anew_total", "0x50 1x150", instance="trainer"),
        series("labelloop_append_failures_total", "0x50 1x150", instance="trainer"),
        series("labelloop_grpc_call_seconds_bucket", "0+60x200", method="Score", le="0.05"),
        series("labelloop_grpc_call_seconds_bucket", "0+60x200", method="Score", le="+Inf"),
        series("labelloop_event_loop_lag_seconds", "0.01x50 3 0.02x149", instance="oracle"),
    ]
    expected = [
        {"eval_time": f"{minute}m", "alertname": alert["alert"], "exp_alerts": []}
        for minute in range(0, 200, 5)
        for alert in alerts()
    ]
    tests = [{"interval": "1m", "input_series": quiet, "alert_rule_test": expected}]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


@pytest.mark.parametrize(
    ("seen", "firing_at"),
    [
        pytest.param(["2x200"], [range(60)], id="letters that were there before anybody looked"),
        pytest.param(["0x9 2x190"], [range(10, 70)], id="they end by themselves"),
        pytest.param(
            ["0x9 2x80 1x9 3x90"], [range(10, 70), range(100, 160)], id="more, behind some that were replayed"
        ),
        pytest.param(["2x90 stale", "_x91 2x100"], [range(60)], id="another oracle that knows the same ones"),
        pytest.param(["2x90 3x90", "2x92 3x90"], [range(60), range(91, 153)], id="two that count the same ones"),
    ],
)
def test_dead_letters_alert_until_an_hour_after_the_last_new_one(
    tmp_path: Path, rule_file: Path, seen: list[str], firing_at: list[range]
) -> None:
    name = "LabelloopDeadLetters"
    [alert] = [alert for alert in alerts() if alert["alert"] == name]
    inputs = [series("labelloop_dead_letters", each, tool="sqs", instance=str(i)) for i, each in enumerate(seen)]
    expected = [
        {
            "eval_time": f"{minute}m",
            "alertname": name,
            "exp_alerts": [firing(alert, {"tool": "sqs"})] if any(minute in each for each in firing_at) else [],
        }
        for minute in range(0, 180, 3)
    ]
    tests = [{"interval": "1m", "input_series": inputs, "alert_rule_test": expected}]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (why) (increase(a_total{x="y"}[5m])) > 0', {"a_total"}),
        ('histogram_quantile(0.9, sum by (le) (rate(a_bucket{m="b{c}"}[1m])))', {"a_bucket"}),
        ("a * on (job, instance) group_left (service) (b > bool 0) or vector(0)", {"a", "b"}),
    ],
)
def test_metric_names_are_found_in_expressions(expression: str, names: set[str]) -> None:
    assert names_in(expression) == names


async def use(up: Watched, folder: Path) -> None:
    """Finish a run, leave one waiting for people, score an image, and make a failing call."""
    blobs = write_blobs(folder)
    await start(up.clients, "whole", spec(blobs))
    await finish(up.clients, "whole")
    await start(up.clients, "by_hand", spec(blobs, label_source=BY_PEOPLE))
    await answer_a_batch(up, blobs, "by_hand")
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await up.clients.trainer.GetRun(GetRunRequest(run_id="nobody"))
    await up.clients.scorer.Score(ScoreRequest(run_id="by_hand", images=bytes(IMAGE_BYTES), dtype="uint8"))


async def test_what_is_asked_of_prometheus_is_what_services_tell_it(tmp_path: Path, nats_server: NatsServer) -> None:
    """Each panel gets data, each alert can be evaluated, and a stopped service is noticed."""
    async with watched(tmp_path, nats_server, {"SCORER_WORKERS": "2"}) as up:
        targets = {name: up.metrics_address(name) for name in up.services}
        async with running(tmp_path / "prometheus", targets) as prometheus:
            await use(up, tmp_path)
            await until(lambda: agree(prometheus))
            for title, expressions in dashboard_expressions().items():
                for expression in expressions:
                    await until(lambda asked=expression: has_data(prometheus, asked))  # type: ignore[misc]
                    assert prometheus.query(expression), f"{title}: {expression}"
            for alert in alerts():
                prometheus.query(alert["expr"])
            states = {rule["name"]: rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]}
            assert {name: rule["health"] for name, rule in states.items()} == dict.fromkeys(CASES, "ok")
            await until(lambda: is_quiet(prometheus))
            await up.services["oracle"].stop()
            await until(lambda: notices(prometheus, "LabelloopServiceDown"))


async def test_every_metric_in_a_panel_or_an_alert_is_exposed_by_a_service(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with watched(tmp_path, nats_server, {"SCORER_WORKERS": "2"}) as up:
        known = exposed_names(map(page, up.services.values()))
    asked = {alert["alert"]: [alert["expr"]] for alert in alerts()} | dashboard_expressions()
    unknown = {place: set().union(*map(names_in, each)) - known - ELSEWHERE for place, each in asked.items()}
    assert not {place: names for place, names in unknown.items() if names}


async def agree(prometheus: Prometheus) -> bool:
    """Whether Prometheus has scraped everything that :func:`use` did."""
    known = {
        "sum(labelloop_rounds_total)": 13,
        "sum(labelloop_labels_paid_total)": 35,
        "sum(labelloop_auto_labels_total)": 30,
        'sum(labelloop_grpc_calls_total{method="Score",code="OK"})': 1,
        'sum(labelloop_grpc_calls_total{method="GetRun",code="NOT_FOUND"})': 1,
        'labelloop_open_samples{source="queue"}': 5,
        'labelloop_run_round{run="by_hand"}': 1,
        'count(labelloop_model_info{run="by_hand"})': 1,
    }
    return all(prometheus.number(expression) == number for expression, number in known.items())


async def has_data(prometheus: Prometheus, expression: str) -> bool:
    return bool(prometheus.query(expression))


async def is_quiet(prometheus: Prometheus) -> bool:
    """Whether no alert is active: on a busy machine a late scrape may raise one for a while."""
    return not prometheus.active_alerts()


async def notices(prometheus: Prometheus, alert: str) -> bool:
    return alert in prometheus.active_alerts()


def test_dashboard_panels_are_unique_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"], {(x, y) for x, y in cells(panel["gridPos"])}) for panel in panels]
    taken: set[tuple[int, int]] = set()
    for place, squares in places:
        assert not taken & squares, f"two panels lie at {place}"
        assert place["x"] + place["w"] <= 24
        taken |= squares


def cells(place: dict[str, int]) -> set[tuple[int, int]]:
    return {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}


def test_the_kustomize_component_names_every_file_in_its_folder() -> None:
    component = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
    generated = [name for each in component["configMapGenerator"] for name in each["files"]]
    named = {*component["resources"], *generated, "kustomization.yaml"}
    assert named == {file.name for file in COMPONENT.iterdir()}
    assert component["kind"] == "Component"


def test_the_dashboard_contains_no_url_or_address() -> None:
    assert not re.search(r"https?://|localhost|\d+\.\d+\.\d+\.\d+", json.dumps(dashboard()))
