"""Create Kubernetes Secrets in the pod's own namespace, through the API with the pod's token."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from labelloop.errors import NotAllowed, Unready, WrongState

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Secrets:
    client: httpx.Client
    namespace: str

    def create(self, name: str, data: Mapping[str, bytes]) -> bool:
        """Create a Secret and return True; leave an existing one of that name as it is and return False.

        Raises NotAllowed if the API refuses, as for an account without permission, and Unready if it does not answer.
        """
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "labelloop"}},
            "data": {key: b64encode(value).decode() for key, value in data.items()},
        }
        try:
            response = self.client.post(f"/api/v1/namespaces/{self.namespace}/secrets", json=secret)
        except httpx.TransportError as error:
            raise Unready("NO_CLUSTER_API", f"Kubernetes' API does not answer: {error}") from error
        if response.status_code == httpx.codes.CONFLICT:
            return False
        if response.is_error:
            said = f"{response.status_code}: {response.text}"
            raise NotAllowed("SECRET_REFUSED", f"Secret {name} cannot be made: {said}", secret=name)
        return True


@contextmanager
def in_cluster(account: Path = _ACCOUNT) -> Iterator[Secrets]:
    """Connect to the API that Kubernetes announces to its pods. Raises WrongState outside a pod."""
    try:
        token, namespace = ((account / name).read_text().strip() for name in ("token", "namespace"))
        address = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    except (OSError, KeyError) as error:
        message = "this is for a pod of Kubernetes with a token of its account; elsewhere use `labelloop keys nats`"
        raise WrongState("NO_CLUSTER", message) from error
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, headers=headers, verify=str(account / "ca.crt"), trust_env=False) as client:
        yield Secrets(client, namespace)
