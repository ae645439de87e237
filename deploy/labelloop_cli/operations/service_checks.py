"""Judge what the services say of themselves. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from labelloop.diagnostics.v1.diagnostics_pb2 import Broker, DiagnoseResponse

from labelloop_cli.local.checks import DISK_NEEDED_BYTES, Check
from labelloop_cli.operations.service_answers import Answer
from labelloop_cli.output.hold_ups import told
from labelloop_cli.output.local_time import local_time

CLOCKS_DIFFER_MAX = timedelta(seconds=5)
CERTIFICATE_LEFT_MIN = timedelta(days=14)  # cert-manager renews those of the manifests with 30 days left
_RENEW = "see why it is not renewed: kubectl describe certificate"


def service_checks(answers: Sequence[Answer], version: str, now: datetime) -> list[Check]:
    """Return checks of all services, a few for each instance.

    Args:
        version: Version of the command, which that of services must equal.
        now: The time here, by which certificates end.
    """
    found = [check for answer in answers for check in _of_instance(answer, version, now)]
    return [*found, *_runs([answer.response for answer in answers if answer.response])]


def certificate_check(name: str, ends: datetime, now: datetime) -> Check:
    """Check that a certificate is valid for two weeks more."""
    left = ends - now
    if left <= timedelta():
        return Check(name, False, f"ended at {local_time(ends)}", _RENEW)
    return Check(
        name, left >= CERTIFICATE_LEFT_MIN, f"{left.days} days left", _RENEW if left < CERTIFICATE_LEFT_MIN else ""
    )


def _of_instance(answer: Answer, version: str, now: datetime) -> Iterator[Check]:
    title, response = answer.service, answer.response
    if response is None:
        advice = f"see that the {title} runs, and that LABELLOOP_{title.upper()} and LABELLOOP_TLS_DIR are right"
        yield Check(title, False, f"{answer.address} does not answer: {answer.problem}", advice)
        return
    instance = response.instance.partition("/")[0]
    if response.service != title:
        yield Check(title, False, f"{answer.address} is the {response.service}", f"set LABELLOOP_{title.upper()}")
        return
    same = response.version == version
    advice = "" if same else f"this command is {version}: bring all to one version"
    yield Check(title, same, f"{instance} answers, version {response.version}", advice)
    yield _clock(f"{title} clock", answer.clock)
    if response.HasField("certificate_ends"):
        yield certificate_check(f"{title} certificate", response.certificate_ends.ToDatetime(now.tzinfo), now)
    yield _broker(f"{title} broker", response.broker)
    for away in response.tools_away:
        advice = f"check that {away.tool} runs and accepts the oracle's credentials; the oracle then goes on by itself"
        yield Check(f"{title} tool", False, told(away), advice)
    for disk in response.disks:
        ok = disk.bytes_free >= DISK_NEEDED_BYTES
        said = f"{_gb(disk.bytes_free)} of {_gb(disk.bytes)} free at {disk.folder}"
        advice = "" if ok else f"enlarge the {title}'s disk, or lower its LABELLOOP_CACHE_GB"
        yield Check(f"{title} disk", ok, said, advice)


def _clock(name: str, ahead: timedelta) -> Check:
    ok = abs(ahead) <= CLOCKS_DIFFER_MAX
    where = "ahead of" if ahead > timedelta() else "behind"
    said = (
        f"{abs(ahead).total_seconds():.1f} s {where} the one here" if abs(ahead).total_seconds() >= 0.05 else "as here"
    )
    return Check(name, ok, said, "" if ok else "set the nodes' clocks by NTP: leases and deadlines go by them")


def _broker(name: str, broker: Broker) -> Check:
    if broker.problem:
        advice = "see that the broker runs and can be reached from the service; its log says more"
        return Check(name, False, broker.problem, advice)
    lagging = [stream for stream in broker.streams if stream.current < stream.replicas]
    streams = (f"{each.name} {_gb(each.bytes)} on {each.current} of {each.replicas}" for each in broker.streams)
    said = "; ".join([f"nats-server {broker.version}", *streams])
    return Check(
        name, not lagging, said, "see which node of the broker is away or behind, and its disk" if lagging else ""
    )


def _runs(responses: Sequence[DiagnoseResponse]) -> Iterator[Check]:
    held_up = {(run.run_id, run.problem) for response in responses for run in response.held_up}
    if responses and not held_up:
        tools = {away.tool for response in responses for away in response.tools_away}
        said = f"none is held up, except by {', '.join(sorted(tools))}" if tools else "none is held up"
        yield Check("runs", True, said)
    for run_id, problem in sorted(held_up):
        yield Check(f"run {run_id}", False, f"held up: {problem}", "mend what it names: the run then goes on by itself")


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
