# SPDX-License-Identifier: Apache-2.0
"""The reference studies: models that were trained for them, shown beside the ranks and never among them."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from voxelboard.benchmark.protocol import PROTOCOLS
from voxelboard.benchmark.study_tables import ALL_ROIS, STUDY_FILE, Quantity, StudyTables, TrainingOfStudy, read_tables
from voxelboard.leaderboard.study_pictures import ARCHITECTURES, study_pictures
from voxelboard.leaderboard.text import bounds, count, number, plain, signed

FOLDER = "studies"
_ORIGINAL = "original"


def find_studies(source: Path) -> tuple[StudyTables, ...]:
    """The studies in ``studies/`` in the folder of records or beside it, by name.

    Raises
    ------
    DataError
        for a damaged one.
    """
    folders = (source / FOLDER, source.parent / FOLDER)
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        return ()
    return tuple(read_tables(path.parent) for path in sorted(found.glob(f"*/{STUDY_FILE}")))


def studies_context(studies: Sequence[StudyTables]) -> dict[str, Any]:
    """Values for ``studies.html.j2``."""
    return {"studies": [_study(study, f"study-{k}") for k, study in enumerate(studies, start=1)]}


def _study(study: StudyTables, identity: str) -> dict[str, Any]:
    architectures = tuple(dict.fromkeys(training.architecture for training in study.trainings))
    pictures = {name: _embedded(svg) for name, svg in study_pictures(study).items()}
    return {
        "id": identity,
        "name": plain(study.name, 60),
        "facts": [
            ("Models", str(len(study.trainings)), f"{_listed(architectures)}, {len(study.seeds)} seeds each"),
            ("Parameters", _span([t.n_parameters for t in study.trainings]), ""),
            ("Tokens of training", _span([t.tokens_seen for t in study.trainings]), "each model"),
            ("Protocol", plain(study.protocol, 20), _measured_under(study)),
        ],
        "architectures": [ARCHITECTURES.get(name, plain(name, 20)) for name in architectures],
        "trainings": [_training(study, made.ablation, architectures) for made in study.corpora],
        "curves": [
            (ARCHITECTURES.get(name, plain(name, 20)), pictures[f"learning-{name}.svg"])
            for name in architectures
            if f"learning-{name}.svg" in pictures
        ],
        "datasets": [
            _dataset(study, data.name, architectures)
            | {"picture": pictures[f"deltas-{data.name.replace(':', '-')}.svg"]}
            for data in study.datasets
        ],
    }


def _embedded(svg: str) -> str:
    """A picture as an address: its colours and classes stay its own."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _measured_under(study: StudyTables) -> str:
    """The hash of the narrative protocol, and whether it is that of the installed version."""
    today = PROTOCOLS[study.protocol].hash_of("narrative") if study.protocol in PROTOCOLS else ""
    note = "" if study.protocol_hash == today else ", an earlier one than that of the ranks today"
    return f"narrative {plain(study.protocol_hash[:12], 12)}{note}"


def _listed(architectures: Sequence[str]) -> str:
    return " and ".join(ARCHITECTURES.get(name, plain(name, 20)) for name in architectures)


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _training(study: StudyTables, ablation: str, architectures: Sequence[str]) -> dict[str, Any]:
    """A version of the corpus: how much of it was replaced, and how well models predict its words."""
    made = next(corpus for corpus in study.corpora if corpus.ablation == ablation)
    runs = [training for training in study.trainings if training.ablation == ablation]
    losses = []
    for architecture in architectures:
        own = [training.validation_loss for training in runs if training.architecture == architecture]
        losses.append((number(sum(own) / len(own), 2), bounds(min(own), max(own), 2)))
    share = (made.counts.replaced + made.counts.removed) / made.counts.words if made.counts.words else 0.0
    return {
        "ablation": plain(ablation, 40),
        "share": f"{100 * share:.0f} %",
        "losses": losses,
        "bigram": _bigram(runs[0]),
        "ngram": number(runs[0].ngram_loss, 2),
    }


def _bigram(training: TrainingOfStudy) -> str:
    """Loss of a bigram model of the whole training part, and of one of as many tokens as the models saw."""
    whole, seen = (training.baselines.get(name) for name in ("bigram", "bigram seen"))
    return "–" if whole is None or seen is None else f"{number(whole, 2)} ({number(seen, 2)})"


def _dataset(study: StudyTables, name: str, architectures: Sequence[str]) -> dict[str, Any]:
    data = next(one for one in study.datasets if one.name == name)
    own = [q for q in study.quantities if q.dataset == name and q.roi == ALL_ROIS]
    columns = [(architecture, text) for architecture in architectures for text in (_ORIGINAL, "ablated")]
    return {
        "name": plain(name, 60),
        "summary": (
            f"{len(data.subjects)} subjects, {data.n_train_stories} training and {data.n_test_stories} test segments, "
            f"{data.n_blocks} test blocks."
        ),
        "scores": [
            (ARCHITECTURES.get(a, plain(a, 20)), _shown(_one(own, a, _ORIGINAL, _ORIGINAL, "score")))
            for a in architectures
        ],
        "columns": [f"{ARCHITECTURES.get(a, plain(a, 20))}, {text} text" for a, text in columns],
        "rows": list(_rows(study, own, columns)),
        "overlaps": [
            {
                "model": ARCHITECTURES.get(o.architecture, plain(o.architecture, 20)),
                "subject": plain(o.subject, 40),
                "jaccard": number(o.jaccard, 2),
                "chance": number(o.chance, 2),
                "specificity": signed(o.specificity[1], 2) if o.specificity else "–",
            }
            for o in study.overlaps
            if o.dataset == name
        ],
    }


def _rows(
    study: StudyTables, own: Sequence[Quantity], columns: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, list[tuple[str, str, bool] | None]]]:
    """Heading and cells: deltas of every version, then what goes beyond its control, then the context."""
    ablations = [made.ablation for made in study.corpora if made.ablation != _ORIGINAL]
    lines = [("delta", a, f"without {plain(a, 40)}" if not a.startswith("random") else plain(a, 40)) for a in ablations]
    lines += [("beyond_control", a, f"{plain(a, 40)} beyond its control") for a in ablations]
    lines.append(("context", _ORIGINAL, "long context minus short"))
    for kind, ablation, heading in lines:
        cells = [_shown(_one(own, architecture, ablation, text, kind)) for architecture, text in columns]
        if any(cells):
            yield heading, cells


def _one(own: Sequence[Quantity], architecture: str, ablation: str, text: str, kind: str) -> Quantity | None:
    wanted = (architecture, ablation, text, kind)
    return next((q for q in own if (q.architecture, q.ablation, q.text, q.kind) == wanted), None)


def _shown(quantity: Quantity | None) -> tuple[str, str, bool] | None:
    """Estimate, interval, and whether the interval leaves 0 out."""
    if quantity is None:
        return None
    clear = quantity.low > 0 or quantity.high < 0
    return signed(quantity.estimate), bounds(quantity.low, quantity.high), clear
