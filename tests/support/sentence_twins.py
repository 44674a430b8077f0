# SPDX-License-Identifier: Apache-2.0
"""Small synthetic twins of public sentence sets in their exact on-disk formats, quirks included."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

TOPICS = ("bees", "coal", "dogs", "eels", "figs", "gold", "hats", "ice", "jam")
PEOPLE = ("018", "199", "215")
N_LANGUAGE = 4  # voxels a person


def write_assembly(path: Path, values: np.ndarray, presentation: dict, neuroid: dict, time: bool = False) -> None:
    """As xarray writes netCDF-4: a table with a scale for each axis, coordinates as variables that hang on the scales."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        scales = {}
        for axis, length in (("presentation", values.shape[0]), ("neuroid", values.shape[1]), ("time", 1)):
            scale = file.create_dataset(axis, data=np.zeros(length, dtype=">f4"))
            scale.make_scale(axis)
            scale.attrs["NAME"] = np.bytes_(f"This is a netCDF dimension but not a netCDF variable. {length:10d}")
            scales[axis] = scale
        table = file.create_dataset("data", data=values[..., None] if time else values)
        for k, axis in enumerate(("presentation", "neuroid", "time")[: table.ndim]):
            table.dims[k].attach_scale(scales[axis])
        for axis, columns in (("presentation", presentation), ("neuroid", neuroid)):
            for name, entries in columns.items():
                entries = np.asarray(entries)
                if entries.dtype.kind == "U":
                    item = file.create_dataset(name, data=entries.astype(object), dtype=h5py.string_dtype())
                else:
                    item = file.create_dataset(name, data=entries)
                item.dims[0].attach_scale(scales[axis])


def pereira_sentences() -> list[dict]:
    """384sentences: nine topics of two passages of three sentences; 243sentences: five topics of one passage of four."""
    rows = []
    for k, topic in enumerate(TOPICS):
        for passage in (1, 2):
            for s in range(3):
                text = f"The {topic} of passage {passage} say sentence {s}."
                rows.append(
                    {"experiment": "384sentences", "story": topic, "passage_index": passage + 2 * k, "stimulus": text}
                )
    for k, topic in enumerate((*TOPICS, "kites")):
        for s in range(4):
            text = f"Other {topic} are in sentence {s}."
            rows.append({"experiment": "243sentences", "story": f"{topic} II", "passage_index": k, "stimulus": text})
    counts: dict[str, int] = {}
    for row in rows:
        number = counts[row["experiment"]] = counts.get(row["experiment"], -1) + 1
        row["stimulus_id"] = f"{row['experiment']}.{number}"
    return rows


def write_pereira(folder: Path) -> tuple[list[dict], np.ndarray]:
    """Brain-Score's assembly: sentences in no order, person 215 only in the first experiment."""
    rows = pereira_sentences()
    rng = np.random.default_rng(5)
    rows = [rows[i] for i in rng.permutation(len(rows))]
    values = rng.standard_normal((len(rows), N_LANGUAGE * len(PEOPLE)))
    second = np.array([row["experiment"] == "243sentences" for row in rows])
    values[second, 2 * N_LANGUAGE :] = np.nan
    presentation = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    owners = np.repeat(PEOPLE, N_LANGUAGE)
    write_assembly(
        folder / "assy_Pereira2018_language.nc",
        values,
        presentation,
        {"subject": owners, "neuroid_id": np.arange(len(owners)), "roi": np.array(["x"] * len(owners))},
    )
    return rows, values


def write_pereira_release(folder: Path, people: tuple[str, ...] = ("M02", "P01")) -> dict[str, np.ndarray]:
    """The authors' MATLAB files of the first experiment; passages and topics are numbered from 1."""
    rows = [row for row in pereira_sentences() if row["experiment"] == "384sentences"]
    examples = {}
    for k, person in enumerate(people):
        values = np.random.default_rng([7, k]).standard_normal((len(rows), 6 + k))
        values[:, 0] = np.nan  # outside of the brain
        (folder / person).mkdir(parents=True)
        cell = np.empty((len(TOPICS), 1), dtype=object)
        cell[:, 0] = list(TOPICS)
        nested = np.empty((1, 1), dtype=object)
        nested[0, 0] = cell
        scipy.io.savemat(
            folder / person / "examples_384sentences.mat",
            {
                "examples": values,
                "keySentences": np.array([row["stimulus"] for row in rows], dtype=object)[:, None],
                "labelsPassageForEachSentence": np.array([row["passage_index"] for row in rows])[:, None],
                "labelsPassageCategory": (np.arange(2 * len(TOPICS)) // 2 + 1)[:, None],
                "keyPassageCategory": nested,
                "meta": {"dimx": 88, "nvoxels": values.shape[1]},
            },
        )
        examples[person] = values
    return examples


REGIONS = ("lang_LH_IFGorb", "lang_LH_IFG", "lang_LH_MFG", "lang_LH_AntTemp", "lang_LH_PostTemp")


def write_tuckute(folder: Path, n_items: int = 60) -> dict[tuple[str, str, int], float]:
    """The participant table: shuffled rows, driven and suppressed sentences, people of the second half, a network average."""
    rng = np.random.default_rng(9)
    lines, truth = [], {}
    for person in ("848", "853", "865", "875", "876", "797"):
        for item in range(1, n_items + 11):
            condition = "B" if item <= n_items else ("D", "S")[item % 2]
            for region in (*REGIONS, "lang_LH_netw"):
                value = float(rng.standard_normal())
                sentence = f'"People, number {item}, walk home."'
                lines.append(
                    f"{value!r},{value + 1!r},{region},{person},{item},{sentence},{condition},{condition}_search"
                )
                if condition == "B" and person != "797":
                    truth[person, region, item] = value
    lines = [lines[i] for i in rng.permutation(len(lines))]
    header = "response_target,response_target_non_norm,roi,target_UID,item_id,sentence,cond,cond_approach"
    path = folder / "data" / "brain-lang-data_participant_20230728.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return truth


STORIES = ("Aqua", "Boar", "Elvis", "HighSchool")
AREAS = (
    "01_LH_PostTemp", "02_LH_AntTemp", "03_LH_IFG", "04_LH_IFGorb", "05_LH_MFG", "06_LH_AngG",
    "07_RH_PostTemp", "08_RH_AntTemp", "09_RH_IFG", "10_RH_IFGorb", "11_RH_MFG", "12_RH_AngG",
)  # fmt: skip


def write_blank(folder: Path, people: tuple[str, ...] = ("061", "085", "088")) -> tuple[dict, np.ndarray]:
    """Fragments of stories in no order, with the sentence and part that they belong to."""
    rng = np.random.default_rng(11)
    rows = [(story, s, p) for story in STORIES for s in range(6) for p in range(3)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    presentation = {
        "story": np.array([story for story, _, _ in rows]),
        "sentence_number_in_story": np.array([s for _, s, _ in rows]),
        "part_number_in_sentence": np.array([p for _, _, p in rows]),
        "stimulus": np.array([f"{story} says {s}.{p} " for story, s, p in rows]),
    }
    owners = np.repeat(people, len(AREAS))
    order = rng.permutation(len(owners))
    neuroid = {"subject_id": owners[order], "fROI_area": np.tile(AREAS, len(people))[order]}
    values = rng.standard_normal((len(rows), len(owners)))
    write_assembly(folder / "assy_Blank2014_fROI.nc", values, presentation, neuroid, time=True)
    return {**presentation, **neuroid}, values
