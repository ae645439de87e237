"""How long tests wait for what must come."""

PATIENCE_S = 300.0
"""What takes longer than this hangs. Not a measure of speed: a slow, busy machine must not fail a test."""
