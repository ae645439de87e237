"""The scorer as a process: ``python -m scorer_svc``. With several workers it starts them and serves nothing itself."""

from __future__ import annotations

from labelloop.wire.process import run_service
from labelloop.wire.settings import read_settings

from scorer_svc.config import ScorerSettings

if __name__ == "__main__":
    settings = read_settings(ScorerSettings)
    if settings.workers > 1:
        from scorer_svc.workers import supervise

        run_service("scorer", settings, supervise)
    else:
        from scorer_svc.serving import serve  # what only a worker needs takes a second and 100 MB

        run_service("scorer", settings, serve)
