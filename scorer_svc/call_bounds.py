"""Define how many calls of each method a scorer serves at once."""

from __future__ import annotations

from labelloop.rpc.admission import Bound, CallBounds

CALL_BOUNDS = CallBounds(
    bounds=[
        Bound(["RankPool"], at_once=4, waiting=64, where="threads `score`"),
        Bound(["RankPoolStream"], at_once=2, waiting=16, where="threads `score`"),
        Bound(["GetSamples"], at_once=4, waiting=32, where="the event loop's threads"),
        Bound(["ClusterPool"], at_once=1, waiting=3, where="a thread `clustering` of its own"),
        Bound(["LearnFeatures"], at_once=1, waiting=16, where="threads `features`"),
        Bound(["ExtractFeatures"], at_once=8, waiting=64, where="threads `features`"),
        Bound(["FindFetchedShards"], at_once=4, waiting=16, where="the event loop's threads"),
    ],
    unbounded={
        "Score": "inline if it is small, refused while more than 512 wait; else in a thread `posted`, refused once it "
        "would wait 0.1 s",
        "ScoreStream": "each message as a call of `Score`",
        **dict.fromkeys(("ServerLive", "ServerReady", "ServerMetadata"), "answered at once"),
        **dict.fromkeys(("ModelReady", "ModelMetadata", "ModelConfig"), "answered once the model is in memory"),
        "ModelInfer": "as a call of `Score`; elements that are no bytes are converted in a thread `converting`",
        "ModelStreamInfer": "each message as a call of `ModelInfer`",
    },
)
