"""Create and complete Kubernetes Secrets in the pod's own namespace, through the API with the pod's token."""

from __future__ import annotations

import os
import ssl
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from labelloop.errors import NotAllowed, Unready, WrongState

_TRIES = 10  # each try that fails is another pod's success, and there are few pods
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the token of its account."""
_LABELS = {"app.kubernetes.io/part-of": "labelloop"}

Data = Mapping[str, bytes]


@dataclass(frozen=True)
class Secrets:
    client: httpx.Client
    namespace: str

    def complete(self, name: str, missing: Callable[[Data], Data]) -> list[str]:
        """Add to a Secret what it lacks, and return the keys added; create it if it does not exist.

        ``missing`` takes what the Secret has and returns what to add. Keys that exist are never changed: where another
        pod writes at the same time, the Secret is read again.

        Raises:
            NotAllowed: If the API refuses, as for an account without permission.
            Unready: If it does not answer, or if others keep changing the Secret.
        """
        for _ in range(_TRIES):
            found = self._read(name)
            had = {key: b64decode(value) for key, value in ((found or {}).get("data") or {}).items()}
            added = missing(had)
            if not added or self._write(name, found, {**had, **added}):
                return sorted(added)
        raise Unready("SECRET_CONTESTED", f"Secret {name} was changed by others in {_TRIES} tries", secret=name)

    def _read(self, name: str) -> dict[str, Any] | None:
        response = self._request("GET", f"/{name}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        secret: dict[str, Any] = _checked(name, response).json()
        return secret

    def _write(self, name: str, found: dict[str, Any] | None, data: Data) -> bool:
        """Create the Secret or replace what was read; return False if it has changed since."""
        encoded = {key: b64encode(value).decode() for key, value in data.items()}
        if found is None:
            metadata = {"name": name, "labels": _LABELS}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
            response = self._request("POST", "", secret)
        else:
            response = self._request("PUT", f"/{name}", {**found, "data": encoded})
        if response.status_code in (httpx.codes.CONFLICT, httpx.codes.NOT_FOUND):
            return False
        _checked(name, response)
        return True

    def _request(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            return self.client.request(method, f"/api/v1/namespaces/{self.namespace}/secrets{path}", json=body)
        except httpx.TransportError as error:
            raise Unready("NO_CLUSTER_API", f"Kubernetes' API does not answer: {error}") from error


def _checked(name: str, response: httpx.Response) -> httpx.Response:
    if response.is_server_error:
        raise Unready("NO_CLUSTER_API", f"Kubernetes' API fails: {response.status_code}: {response.text}")
    if response.is_error:
        said = f"{response.status_code}: {response.text}"
        raise NotAllowed("SECRET_REFUSED", f"Secret {name} cannot be read or made: {said}", secret=name)
    return response


@contextmanager
def in_cluster(account: Path = ACCOUNT) -> Iterator[Secrets]:
    """Connect to the API that Kubernetes announces to its pods. Raises WrongState outside a pod."""
    try:
        token, namespace = ((account / name).read_text().strip() for name in ("token", "namespace"))
        address = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    except (OSError, KeyError) as error:
        message = "this is for a pod of Kubernetes with a token of its account; elsewhere use `labelloop keys nats`"
        raise WrongState("NO_CLUSTER", message) from error
    headers, context = {"Authorization": f"Bearer {token}"}, ssl.create_default_context(cafile=account / "ca.crt")
    with httpx.Client(base_url=address, headers=headers, verify=context, trust_env=False) as client:
        yield Secrets(client, namespace)
