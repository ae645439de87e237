"""Keep the certificates that a nats-server reads up to date: it takes one file of authorities, and reads when told to.

``INTO/current`` leads to a folder of ``ca.crt``, ``tls.crt`` and ``tls.key``, in which all authorities to trust are in
``ca.crt``. It is exchanged as a whole, so that a server that starts in this moment reads files that fit together.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import structlog
from labelloop.rpc.certificates import Certificates

log = structlog.get_logger()


def hand_over(certificates: Certificates, into: Path) -> str:
    """Write certificates to a folder of their own and let ``current`` lead there; return the folder's name.

    Earlier folders are removed.
    """
    parts = {"ca.crt": certificates.authorities, "tls.crt": certificates.certificate, "tls.key": certificates.key}
    name = sha256(b"\0".join(parts.values())).hexdigest()
    folder, draft = into / name, into / "draft"
    if not folder.exists():
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        for file, content in parts.items():
            (draft / file).touch(mode=0o600)
            (draft / file).write_bytes(content)
        draft.replace(folder)
    link = into / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(into / "current")
    for other in into.iterdir():
        if other.is_dir() and not other.is_symlink() and other != folder:
            shutil.rmtree(other)
    return name


@dataclass
class Broker:
    """A nats-server by its file of the process id, told once of each change, and once after each of its starts."""

    pid_file: Path
    _told: tuple[str, int] = field(default=("", 0))

    def tell(self, name: str) -> bool:
        """Have the server read its files again if it has not since they are those of ``name``; return whether it has.

        A server that is not running reads them when it starts.
        """
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):  # not started yet, or writing it in this moment
            return False
        if (name, pid) != self._told:
            try:
                os.kill(pid, signal.SIGHUP)
            except ProcessLookupError:  # ended, and its file is left
                return False
            log.info("broker_told_of_certificates", pid=pid)
            self._told = (name, pid)
        return True
