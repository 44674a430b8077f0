# SPDX-License-Identifier: Apache-2.0
"""Made-up analyses of the task captions: searchlights, networks, decoding."""

from voxelboard.benchmark.caption_tables import (
    Alignment,
    Analysis,
    AnalysisStamp,
    AnalysisTables,
    DecodedImage,
    Difference,
    Losses,
    RegionTest,
    SubjectScore,
)
from voxelboard.benchmark.protocol import V1

ROIS = ("early", "lateral")
NETWORKS = ("caption-trained", "category-trained", "untrained")


def stamp(analysis: Analysis) -> AnalysisStamp:
    today = V1.hash_of("captions")
    return AnalysisStamp(
        analysis,
        "org/one",
        "public",
        3,
        "pictures",
        "1.0",
        "simulated",
        "v1",
        today,
        ("s1", "s2"),
        180,
        {"radius": "2"},
    )


MAPS = AnalysisTables(
    stamp("searchlight"),
    tests=(
        RegionTest("whole caption", "early", 0.128, (0.12, 0.136), 0.01, 0.02, 48, 1.0, 0.077, 0.179),
        RegionTest("whole caption", "lateral", -0.004, (-0.01, 0.002), 0.4, 0.5, 48, 0.0, -0.08, 0.072),
    ),
)
NETS = AnalysisTables(
    stamp("networks"),
    alignments=tuple(
        Alignment(network, layer, time, roi, 0.1 * k, (0.1 * k, 0.12 * k), seed)
        for k, network in enumerate(NETWORKS, start=1)
        for layer in ("layer 0", "readout")
        for time in (0, 1)
        for roi in ROIS
        for seed in (0, 1)
    )
    + tuple(Alignment("embedding", "readout", 0, roi, 0.5, (0.4, 0.6)) for roi in ROIS),
    differences=tuple(
        Difference("caption-trained", other, roi, 0.03, low, 0.05, (0.03, 0.03))
        for other, low in (("category-trained", 0.01), ("untrained", -0.01))
        for roi in ROIS
    ),
    losses=tuple(Losses(name, seed, (0.9, 0.8), (0.95, 0.85)) for name in NETWORKS[:2] for seed in (0, 1)),
)


DECODED = AnalysisTables(
    stamp("decoding"),
    scores=(
        SubjectScore("retrieval", "s1", 0.5, 0.4, 0.6),
        SubjectScore("retrieval", "s2", 0.7, 0.6, 0.8),
        SubjectScore("top1", "s1", None, None, None),
        SubjectScore("top1", "s2", 0.1, 0.0, 0.2),
    ),
    images=(DecodedImage("s1", 7, 0, 41.0, "A dog <b>runs</b>.", ("A dog walks.", "A cat."), (0.91, 0.5)),),
)
