"""Run the scorer process: ``python -m scorer_svc``.

With more than one worker, this process only supervises them and scores nothing itself.
"""

from __future__ import annotations

from labelloop.runtime.process import run_service
from labelloop.settings import read_settings

from scorer_svc.config import ScorerSettings

if __name__ == "__main__":
    settings = read_settings(ScorerSettings)
    if settings.workers > 1:
        from scorer_svc.supervisor import supervise

        run_service("scorer", settings, supervise)
    else:
        from scorer_svc.bootstrap import serve  # its imports, needed only by workers, take a second and 100 MB

        run_service("scorer", settings, serve)
