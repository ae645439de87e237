"""Ask a database of advisories about every library that is pinned: ``python -m environments.audit [URL]``.

The database is OSV's, which pip-audit can ask too: package URLs are all that it needs, so nothing is installed for it.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from environments.pinned import IMAGES, Pin, pins

DATABASE = "https://api.osv.dev"
_TIMEOUT_S = 30
_BATCH = 500  # a query of the database takes 1,000 at most
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_CLEAN, _FOUND, _NOTHING_CHECKED = 0, 1, 2


class Unreachable(Exception):
    """The database cannot be asked; the message gives the reason."""


def main(database: str) -> int:
    """Print each library with a known flaw. Return 0 if there is none, 1 if there are, 2 if nobody could be asked."""
    pinned = pins([Path("requirements.lock"), Path("deploy/environments/digits.lock"), *sorted(IMAGES.glob("*.lock"))])
    try:
        found = advisories(database, pinned)
    except Unreachable as error:
        print(f"no database reachable: {database}: {error}; NOTHING WAS CHECKED", file=sys.stderr)
        return _NOTHING_CHECKED
    for pin, names in found:
        print(f"{pin.name} {pin.version}: {', '.join(names)}")
    print(f"{len(found)} of {len(pinned)} libraries have known flaws, says {database}")
    return _FOUND if found else _CLEAN


def advisories(database: str, pinned: Sequence[Pin]) -> list[tuple[Pin, list[str]]]:
    """Return the libraries that have advisories, with their names.

    Raises:
        Unreachable: If the database does not answer, or not as it should.
    """
    found = []
    for start in range(0, len(pinned), _BATCH):
        batch = pinned[start : start + _BATCH]
        for pin, names in zip(batch, _ask(database, batch), strict=True):
            if names:
                found.append((pin, names))
    return found


def _ask(database: str, batch: Sequence[Pin]) -> list[list[str]]:
    body = json.dumps({"queries": [{"package": {"purl": pin.purl}} for pin in batch]}).encode()
    request = urllib.request.Request(f"{database}/v1/querybatch", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            results = json.loads(answer.read(_ANSWER_BYTES_MAX))["results"]
        names = [_names(result) for result in results]
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error
    if len(names) != len(batch):
        raise Unreachable(f"it answered about {len(names)} libraries, and was asked about {len(batch)}")
    return names


def _names(result: Any) -> list[str]:
    """Return the advisories in a result. A further page would only name more of them."""
    return sorted(str(each["id"]) for each in result.get("vulns", ()))


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or [DATABASE])))
