"""Check all settings of the oracle before it starts, or alone: ``python -m oracle_svc.settings_check``."""

from __future__ import annotations

import sys

from labelloop.errors import InvalidInput
from labelloop.settings import read_settings

from oracle_svc.config import OracleSettings
from oracle_svc.integrations.registry import check_settings
from oracle_svc.web.settings import from_environment as web_settings


def checked_settings() -> OracleSettings:
    """Return the oracle's settings; if any is wrong, or one of the page's or a tool's, print why and exit with 2."""
    settings = read_settings(OracleSettings)
    try:
        check_settings(has_port=web_settings() is not None)
    except InvalidInput as error:
        print(error.message, file=sys.stderr)
        raise SystemExit(2) from None
    return settings


if __name__ == "__main__":
    checked_settings()
