"""Read and write exported runs: zip archives of ``events.jsonl``, an event a line, and ``artifacts/<SHA-256>``."""
