"""Define how many calls of each method a trainer serves at once."""

from __future__ import annotations

from labelloop.rpc.admission import Bound, CallBounds

_MEMORY = "answered from memory"

CALL_BOUNDS = CallBounds(
    bounds=[
        Bound(["StartRun"], at_once=16, waiting=64, where="waits for the oracle, which reads the dataset"),
        Bound(["ListLabels", "GetModel"], at_once=8, waiting=64, where="the event loop, 1,000 labels at a time"),
        Bound(["ExportRun"], at_once=4, waiting=8, where="the event loop, waiting for broker and store"),
        Bound(["ArchiveRun", "RestoreRun"], at_once=2, waiting=8, where="the event loop, waiting for broker and store"),
        Bound(["SweepArtifacts"], at_once=1, waiting=2, where="the event loop, waiting for the broker"),
    ],
    unbounded={
        "GetRun": _MEMORY,
        "ListRuns": _MEMORY,
        "WatchRun": "answered from memory at each change, at most twenty times a second",
        "CancelRun": "writes one event",
        "ClearImport": "writes one event",
        "ImportRun": "one at a time, and others are refused at once: `IMPORT_UNDER_WAY`",
    },
)
