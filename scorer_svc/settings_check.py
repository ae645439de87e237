"""Check the settings of the scorer without starting it: ``python -m scorer_svc.settings_check``."""

from __future__ import annotations

from labelloop.settings import read_settings

from scorer_svc.config import ScorerSettings

if __name__ == "__main__":
    read_settings(ScorerSettings)
