# SPDX-License-Identifier: Apache-2.0
"""Maps of a data set of pictures, over subjects: where whole captions agree with the brain, and what text alone predicts.

*searchlight*: RSA in a sphere around every voxel with the embeddings of whole captions and of controls, and what whole captions
have beyond each control. *contrasts*: predicted people - places, people - food, places - food. Where voxels are in correspondence
(one surface, one simulated grid) every voxel is tested over subjects, two-sided and corrected by Benjamini and Hochberg; regions
are tested in any case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.caption_tables import AnalysisStamp, AnalysisTables, RegionTest
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings
from voxelboard.benchmark.readers.captions_data import CaptionsData
from voxelboard.benchmark.similarity.contrasts import PROBES
from voxelboard.benchmark.similarity.rdms import draw_image_sets
from voxelboard.benchmark.similarity.rsa import group_test
from voxelboard.benchmark.similarity.searchlight import MIN_SHARE, RADIUS_VOXELS, make_spheres, searchlight
from voxelboard.benchmark.statistics.fdr import benjamini_hochberg
from voxelboard.benchmark.statistics.intervals import t_interval
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks.base import RunContext
from voxelboard.benchmark.tasks.caption_controls import Controls, contrast_maps, embed_controls
from voxelboard.benchmark.tasks.caption_encoding import encode_captions, prepare_subject
from voxelboard.benchmark.tasks.caption_geometry import embedding_rdms
from voxelboard.benchmark.tasks.caption_sources import open_caption_sources

FloatArray = NDArray[np.float64]
WHOLE = "whole caption"


@dataclass(frozen=True, eq=False)
class GroupMaps:
    """Maps of all subjects.

    maps : name -> subject -> (n_voxels,), NaN where there is none. tests : every map and region. adjusted : name -> (n_voxels,)
    corrected p over subjects, empty where voxels are not in correspondence.
    """

    subjects: tuple[str, ...]
    layer: int
    maps: Mapping[str, Mapping[str, FloatArray]]
    tests: tuple[RegionTest, ...]
    adjusted: Mapping[str, FloatArray]

    def test(self, name: str, roi: str) -> RegionTest:
        """One row of the table."""
        return next(test for test in self.tests if (test.map, test.roi) == (name, roi))

    def save(self, folder: Path, stamp: AnalysisStamp) -> None:
        """``ANALYSIS.json`` with the tests, ``ANALYSIS.npz`` with ``map__subject`` and ``map__adjusted`` arrays."""
        arrays: dict[str, Any] = {
            f"{label}__{subject}": values.astype(np.float32)
            for label, by_subject in self.maps.items()
            for subject, values in by_subject.items()
        }
        arrays |= {f"{label}__adjusted": values.astype(np.float32) for label, values in self.adjusted.items()}
        replace_file(folder / f"{stamp.analysis}.npz", partial(_save, arrays))
        AnalysisTables(stamp, tests=self.tests).save(folder / f"{stamp.analysis}.json")


def searchlight_maps(
    submission: Submission,
    data: CaptionsData,
    context: RunContext,
    *,
    layer: int | None = None,
    controls: Sequence[str] = ("word average",),
    radius: float = RADIUS_VOXELS,
    min_share: float = MIN_SHARE,
) -> GroupMaps:
    """RSA of whole captions and of controls in every sphere, on disjoint sets of the test images.

    Parameters
    ----------
    layer : of the model; None takes the one that encodes the training images best.
    controls : each gives its own map and that of whole captions beyond it.

    Raises
    ------
    UserError
        for an unknown control, and data without voxel positions (a surface).
    """
    embeddings, embedded = _embed(submission, data, context, controls)
    chosen = encoding_layer(embeddings, data, context) if layer is None else layer
    size = min(context.protocol.captions.set_size, len(data.test_ids))
    drawn = draw_image_sets(data.test_ids, data.name, seed=context.protocol.seed, set_size=size)
    sets = drawn.rows(data.test_ids)
    rows = data.images.rows(data.test_ids)
    tables = {WHOLE: embeddings.layer(chosen), **{name: embedded.table(name, chosen) for name in controls}}
    rdms = np.stack([embedding_rdms(table[rows], sets) for table in tables.values()])
    maps: dict[str, dict[str, FloatArray]] = {}
    for done, subject in enumerate(data.subjects):
        context.progress("searchlight", done, len(data.subjects))
        responses = data.responses(subject)
        if responses.positions is None or responses.grid_shape is None:
            raise UserError(
                f"{data.name} has no voxel positions, so there are no spheres", "choose the data in a volume"
            )
        spheres = make_spheres(responses.positions, responses.grid_shape, radius=radius, min_share=min_share)
        found = searchlight(responses.test_mean, rdms, sets, spheres, device=context.device)
        for name, values in zip(tables, found, strict=True):
            whole = np.full(responses.n_voxels, np.nan)
            whole[spheres.centres] = values
            maps.setdefault(name, {})[subject] = whole
    for name in controls:
        beyond = {subject: maps[WHOLE][subject] - maps[name][subject] for subject in data.subjects}
        maps[f"{WHOLE} - {name}"] = beyond
    return group_maps(maps, data, chosen)


def contrast_group_maps(
    submission: Submission, data: CaptionsData, context: RunContext, *, layer: int | None = None
) -> GroupMaps:
    """Predicted differences between sentences of people, places and food, from each subject's own encoder.

    Raises
    ------
    UserError
        for a row that reads no text.
    """
    sources = open_caption_sources(submission, data, context)
    if sources.model is None:
        raise UserError(f"{submission.label} reads no sentences", "choose a model that reads text")
    chosen = encoding_layer(sources.embeddings, data, context) if layer is None else layer
    captions = sources.embeddings.layer(chosen)
    maps: dict[str, dict[str, FloatArray]] = {f"{a} - {b}": {} for a, b in combinations(PROBES, 2)}
    for done, subject in enumerate(data.subjects):
        context.progress("contrasts", done, len(data.subjects))
        ready = prepare_subject(data.responses(subject), data.images, context.protocol, context.device, None)
        found = contrast_maps(sources.model, captions, chosen, ready, context)
        for name, by_subject in maps.items():
            by_subject[subject] = found[f"contrast__{name.replace(' - ', '-')}"].astype(np.float64)
    return group_maps(maps, data, chosen)


def encoding_layer(embeddings: ImageEmbeddings, data: CaptionsData, context: RunContext) -> int:
    """The layer that encodes left-out *training* images best, mean over regions and subjects."""
    if embeddings.n_layers == 1:
        return 0
    inner = []
    for done, subject in enumerate(data.subjects):
        context.progress("layer", done, len(data.subjects))
        ready = prepare_subject(data.responses(subject), data.images, context.protocol, context.device, None)
        found = encode_captions(embeddings, ready, data.scored_rois, context.protocol, context.device)
        inner.append(np.mean([found.inner["raw"][roi] for roi in data.scored_rois], axis=0))
    return int(np.mean(inner, axis=0).argmax())


def group_maps(maps: Mapping[str, Mapping[str, FloatArray]], data: CaptionsData, layer: int) -> GroupMaps:
    """Test every map by region, and by voxel where voxels are in correspondence."""
    labels = {subject: data.responses(subject).rois for subject in data.subjects}
    several = len(data.subjects) > 1
    adjusted = {name: _voxel_tests(list(of.values())) for name, of in maps.items()} if _same(labels, data) else {}
    rois = [roi for roi in dict.fromkeys(labels[data.subjects[0]].tolist()) if _covered(maps, labels, roi)]
    means = {
        name: np.array([[np.nanmean(of[s][labels[s] == roi]) for roi in rois] for s in data.subjects])
        for name, of in maps.items()
    }
    p = np.concatenate([group_test(table).p for table in means.values()]) if several else None
    corrected = None if p is None else benjamini_hochberg(p)[1]
    tests = []
    for i, (name, roi) in enumerate((name, roi) for name in maps for roi in rois):
        column = means[name][:, rois.index(roi)]
        first = labels[data.subjects[0]] == roi
        lit = adjusted[name][first] if name in adjusted else None
        low, high = _t_bounds(column) if several else (None, None)
        tests.append(
            RegionTest(
                name,
                roi,
                float(column.mean()),
                tuple(column.tolist()),
                None if p is None else float(p[i]),
                None if corrected is None else float(corrected[i]),
                int(np.isfinite(maps[name][data.subjects[0]][first]).sum()),
                None if lit is None else float((lit[np.isfinite(lit)] <= 0.05).mean()),
                low,
                high,
            )
        )
    return GroupMaps(data.subjects, layer, maps, tuple(tests), adjusted)


def _t_bounds(values: FloatArray) -> tuple[float, float]:
    """Ends of the 95 % t interval of a mean over subjects."""
    n = len(values)
    found = t_interval(values.mean(), values.std(ddof=1) / np.sqrt(n), n - 1, n, "mean over subjects, t")
    return found.low, found.high


def _voxel_tests(maps: Sequence[FloatArray]) -> FloatArray:
    """(n_voxels,) corrected p over subjects, NaN where a subject has no value."""
    table = np.stack(maps)
    there = np.isfinite(table).all(axis=0)
    adjusted = np.full(table.shape[1], np.nan)
    if there.any():
        adjusted[there] = benjamini_hochberg(group_test(table[:, there]).p)[1]
    return adjusted


def _same(labels: Mapping[str, NDArray[np.str_]], data: CaptionsData) -> bool:
    return data.in_correspondence and len(labels) > 1 and len({len(of) for of in labels.values()}) == 1


def _covered(maps: Mapping[str, Mapping[str, FloatArray]], labels: Mapping[str, NDArray[np.str_]], roi: str) -> bool:
    """Every subject has a value of every map in the region."""
    return all(np.isfinite(values[labels[s] == roi]).any() for of in maps.values() for s, values in of.items())


def _embed(
    submission: Submission, data: CaptionsData, context: RunContext, controls: Sequence[str]
) -> tuple[ImageEmbeddings, Controls]:
    sources = open_caption_sources(submission, data, context)
    if not controls:
        return sources.embeddings, Controls({}, {})
    if sources.model is None:
        raise UserError(f"{submission.label} reads no text, so it has no controls", "leave --control out")
    embedded = embed_controls(sources.model, data, context)
    for name in controls:
        if name not in embedded.names:
            raise DataError(f"unknown control {name!r}", f"allowed: {', '.join(embedded.names)}")
    return sources.embeddings, embedded


def _save(arrays: Mapping[str, Any], file: IO[bytes]) -> None:
    np.savez_compressed(file, **arrays)
