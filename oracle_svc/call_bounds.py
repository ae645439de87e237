"""Define how many calls of each method an oracle serves at once."""

from __future__ import annotations

from labelloop.rpc.admission import Bound, CallBounds

_MEMORY, _WRITES = "answered from memory", "writes one event for each answer"
_THREADS, _BROKER = "the event loop's threads", "the event loop, waiting for the broker"

CALL_BOUNDS = CallBounds(
    bounds=[
        Bound(["DescribeDataset"], at_once=2, waiting=32, where=f"{_THREADS}, which read files"),
        Bound(["FindSamples"], at_once=2, waiting=32, where=_THREADS),
        Bound(["LeaseNext", "ListRequests"], at_once=8, waiting=128, where=f"{_THREADS}, which encode pictures"),
        Bound(["PutParts"], at_once=4, waiting=64, where=f"{_THREADS}, then the broker"),
        Bound(["FindMissingParts", "ListUploads"], at_once=4, waiting=32, where=_BROKER),
        Bound(["PutUpload", "RemoveUpload"], at_once=2, waiting=8, where=f"{_THREADS}, then the broker"),
        Bound(["ListAnswers"], at_once=4, waiting=32, where=_BROKER),
        Bound(["ReplayDeadLetters", "AcceptWithdrawals"], at_once=1, waiting=4, where=_BROKER),
        Bound(["ResendRequests"], at_once=1, waiting=8, where=_BROKER),
    ],
    unbounded={
        "ListOpenSamples": _MEMORY,
        "GetBacklog": _MEMORY,
        "ListDeadLetters": _MEMORY,
        "ListHeldWithdrawals": _MEMORY,
        "SubmitLabels": _WRITES,
        "SkipSamples": _WRITES,
        "SubmitResults": _WRITES,
        "CancelRequests": _WRITES,
        "ChangeAnnotators": "writes one event, and one message for each lease",
        "ReleaseLeases": "writes one message for each lease",
        "DiscardDeadLetters": "writes one message for each letter",
    },
)
