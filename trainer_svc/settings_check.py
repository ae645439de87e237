"""Check the settings of the trainer without starting it: ``python -m trainer_svc.settings_check``."""

from __future__ import annotations

from labelloop.settings import read_settings

from trainer_svc.config import TrainerSettings

if __name__ == "__main__":
    read_settings(TrainerSettings)
