"""Take in exported runs: check all that is sent, on disk, before anything is written."""
