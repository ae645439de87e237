"""Checks of certificates: for the names that are called, trusted by everybody, renewed without a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from tests.deploy.broker_checks import HOST, broker
from tests.deploy.manifests import Workload, chosen, environment, of_kind, workloads
from tests.deploy.rendering import Manifest

_ADDRESSES = ("LABELLOOP_NATS_URL", "LABELLOOP_TRAINER", "LABELLOOP_SCORER", "LABELLOOP_ORACLE", "NATS_ROUTES")
_AUTHORITIES = [
    ("tls-authority", True, [{"key": "tls.crt", "path": "authorities/current.crt"}]),
    ("tls-authority-previous", True, [{"key": "tls.crt", "path": "authorities/previous.crt"}]),
]


def certificates_are_for_the_names_that_are_called(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Check that each called service presents a certificate for its name."""
    names = {each["spec"]["secretName"]: each["spec"].get("dnsNames", ()) for each in of_kind(manifests, "Certificate")}
    if not names:
        return
    for workload in workloads(manifests):
        for host in hosts(environment(workload, manifests)):
            shown = _secret_shown(manifests, host)
            if not any(_is_for(name, host) for name in names.get(shown, ())):
                yield f"{workload.name} calls {host}, which shows {shown or 'no certificate'}"


def hosts(said: Mapping[str, str]) -> Iterator[str]:
    """Yield the host names in the addresses of an environment."""
    for address in (said[name] for name in _ADDRESSES if name in said):
        found = HOST.findall(address) if "//" in address else [urlsplit(f"//{address}").hostname]
        yield from (host for host in found if host)


def _secret_shown(manifests: Sequence[Manifest], host: str) -> str:
    """Return the Secret whose certificate the pods show that ``host`` names, also those of a StatefulSet."""
    called = [each for each in of_kind(manifests, "Service") if each["metadata"]["name"] in host.split(".")[:2]]
    for workload in workloads(manifests):
        if any(chosen(each["spec"]["selector"], workload.labels) for each in called):
            return _secret_mounted(workload)
    return ""


def _secret_mounted(workload: Workload) -> str:
    """Return the first Secret of the volume at /secrets/tls; for the broker, of the one that its sidecar follows."""
    mounts = {mount["mountPath"]: mount["name"] for each in workload.containers for mount in each["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
    found = volumes.get(mounts.get("/secrets/renewed", mounts.get("/secrets/tls", "")), {})
    sources = found.get("projected", {}).get("sources", [{}])
    return str(sources[0].get("secret", {}).get("name", ""))


def renewed_certificates_reach_the_broker(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Check that a sidecar hands them over where the broker reads them, and signals the right process."""
    said = environment(broker(manifests), manifests)
    if "NATS_TLS_CERT" not in said:
        return
    main = broker(manifests).main
    sidecars = [each for each in broker(manifests).containers if each.get("args", [])[:2] == ["keys", "follow"]]
    for sidecar in sidecars:
        _, _, _, into, _, pid_file = sidecar["args"]
        if {said[f"NATS_TLS_{what}"].rpartition("/")[0] for what in ("CERT", "KEY", "CA")} != {f"{into}/current"}:
            yield f"the broker does not read {into}/current"
        if main["args"][main["args"].index("--pid") + 1] != pid_file:
            yield f"the broker's process id is not in {pid_file}"
        for path in (into, str(PurePosixPath(pid_file).parent)):
            if _volume_at(sidecar, path) != _volume_at(main, path):
                yield f"the broker and its sidecar see different folders at {path}"
        if sidecar.get("restartPolicy") != "Always" or "startupProbe" not in sidecar:
            yield "the sidecar does not run beside the broker from before it starts"
    if not sidecars or not broker(manifests).pod.get("shareProcessNamespace"):
        yield "nobody tells the broker of renewed certificates"


def _volume_at(container: Manifest, path: str) -> str:
    return next((str(mount["name"]) for mount in container["volumeMounts"] if mount["mountPath"] == path), path)


def both_authorities_are_trusted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Check that each pod with a certificate trusts the authority now in use and the previous one."""
    if not of_kind(manifests, "Certificate"):
        return
    for workload in workloads(manifests):
        for volume in (each for each in workload.pod.get("volumes", ()) if each["name"] == "tls"):
            of = [source["secret"] for source in volume.get("projected", {}).get("sources", ())]
            trusted = [(each["name"], each.get("optional"), each.get("items")) for each in of[1:]]
            if trusted != _AUTHORITIES:
                yield f"{workload.name}: does not trust both authorities, or shows their keys"


def _is_for(name: str, host: str) -> bool:
    """Match a certificate's name; a star covers one part."""
    return name.count(".") == host.count(".") and fnmatch(host, name)
