# SPDX-License-Identifier: Apache-2.0
"""The pictures of a study: learning curves of each architecture, differences on each data set."""

from collections.abc import Sequence

from voxelboard.benchmark.study_tables import ALL_ROIS, Quantity, StudyTables, TrainingOfStudy
from voxelboard.leaderboard.charts.studies import Curve, DeltaRow, delta_chart, learning_curves

ARCHITECTURES = {"lstm": "LSTM", "gpt2": "GPT-2"}
_CONTROL = "random-"


def study_pictures(study: StudyTables) -> dict[str, str]:
    """File name -> SVG that stands alone: ``learning-<architecture>.svg`` and ``deltas-<data set>.svg``."""
    pictures = {}
    for architecture in dict.fromkeys(training.architecture for training in study.trainings):
        own = [training for training in study.trainings if training.architecture == architecture]
        if all(training.curve for training in own):
            title = f"{ARCHITECTURES.get(architecture, architecture)}, validation loss by corpus"
            pictures[f"learning-{architecture}.svg"] = learning_curves(_curves(own), title)
    for data in study.datasets:
        pictures[f"deltas-{data.name.replace(':', '-')}.svg"] = _deltas(study, data.name)
    return pictures


def _curves(trainings: Sequence[TrainingOfStudy]) -> dict[str, Curve]:
    """A control has the colour of its class, broken."""
    versions = list(dict.fromkeys(training.ablation for training in trainings))
    classes = [name for name in versions if not name.startswith(_CONTROL)]
    curves = {}
    for name in versions:
        runs = [training for training in trainings if training.ablation == name]
        control = name.startswith(_CONTROL) and name.removeprefix(_CONTROL) in classes
        colour = classes.index(name.removeprefix(_CONTROL)) if control or name in classes else len(classes)
        reference = runs[0].baselines.get("bigram", runs[0].ngram_loss)
        curves[name] = Curve(tuple(run.curve for run in runs), reference, colour, control)
    return curves


def _deltas(study: StudyTables, dataset: str) -> str:
    order = [corpus.ablation for corpus in study.corpora]
    deltas = [
        q for q in study.quantities if q.dataset == dataset and q.kind in ("delta", "context") and q.roi == ALL_ROIS
    ]
    deltas.sort(key=lambda q: (q.kind == "context", order.index(q.ablation), q.architecture, q.text == "ablated"))
    series = {label: k for k, label in enumerate(dict.fromkeys((q.architecture, q.text) for q in deltas), start=1)}
    rows = [_row(q, series[q.architecture, q.text]) for q in deltas]
    title = f"{dataset}: what is lost (H_u of the original minus this)"
    return delta_chart(rows, title, "difference of H_u, mean over regions, 95 %")


def _row(q: Quantity, colour: int) -> DeltaRow:
    name = "short context" if q.kind == "context" else q.ablation
    series = f"{ARCHITECTURES.get(q.architecture, q.architecture)}, {q.text} text"
    return DeltaRow(name, series, colour, q.estimate, q.low, q.high)
