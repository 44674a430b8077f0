# SPDX-License-Identifier: Apache-2.0
"""A small folder in the exact formats of the Natural Scenes Dataset and of COCO, with responses that are known."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voxelboard.benchmark.readers.cards import ImageSplit, load_card

SUBJECTS = ("subj01", "subj02")
N_SHARED, N_OWN = 35, 75
N_SESSIONS, N_TRIALS = 6, 55  # 330 trials: 110 images, three times each
GRIDS = {"subj01": (7, 6, 5), "subj02": (6, 7, 8)}
N_VERTICES = (20, 24)  # of the hemispheres
STREAMS = {
    0: "Unknown", 1: "early", 2: "midventral", 3: "midlateral", 4: "midparietal", 5: "ventral", 6: "lateral", 7: "parietal",
}  # fmt: skip
BETAS = "betas_fithrf_GLMdenoise_RR"
CATEGORIES = ((1, "person"), (3, "car"), (18, "dog"))


def twin_card():
    """The card of the release with the numbers of the twin."""
    card = load_card("nsd")
    return card.model_copy(
        update={
            "subjects": SUBJECTS,
            "options": {"sessions": f"{N_SESSIONS} {N_SESSIONS}", "trials_per_session": str(N_TRIALS)},
            "split": ImageSplit(kind="images", test="shared", n_test=N_SHARED),
        }
    )


@dataclass
class NsdTwin:
    """Where the twin lies and what it holds; images are numbered from 0 as nsdId does.

    n_vertices : of the hemispheres of its surface.
    """

    folder: Path
    suffix: str = ".hdf5"
    seed: int = 0
    n_vertices: tuple[int, int] = N_VERTICES
    order: np.ndarray = field(init=False)  # 1-based position of each trial
    images: np.ndarray = field(init=False)  # (n_subjects, 110) 1-based ids

    n_images = N_SHARED + len(SUBJECTS) * N_OWN

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.order = rng.permutation(np.repeat(np.arange(N_SHARED + N_OWN), 3)) + 1
        own = N_SHARED + np.arange(len(SUBJECTS) * N_OWN).reshape(len(SUBJECTS), N_OWN)
        shared = np.tile(np.arange(N_SHARED), (len(SUBJECTS), 1))
        self.images = np.concatenate([shared, own], axis=1) + 1

    def shown(self, subject):
        return self.images[SUBJECTS.index(subject), self.order - 1] - 1

    @property
    def surface_labels(self):
        """(n_vertices,) regions 0 to 7 in turn: the first vertices of each hemisphere, and the first beyond fsaverage5."""
        within = np.concatenate([np.arange(n) for n in self.n_vertices])
        labelled = (within < 24) | ((within >= 10_242) & (within < 10_250))
        return np.where(labelled, np.arange(len(within)) % 8, 0)

    def signal(self, subject, n_units):
        """(n_images, n_units) what an image does to each voxel, before noise and sessions."""
        return np.random.default_rng([self.seed, 1, SUBJECTS.index(subject)]).standard_normal((self.n_images, n_units))

    def trials(self, subject, n_units, noise=0.1):
        """(n_sessions, n_trials, n_units) percent signal change: every session has a gain and an offset of its own."""
        rng = np.random.default_rng([self.seed, 2, SUBJECTS.index(subject)])
        values = self.signal(subject, n_units)[self.shown(subject)] + noise * rng.standard_normal((330, n_units))
        values = values.reshape(N_SESSIONS, N_TRIALS, n_units)
        gain = 1 + np.arange(N_SESSIONS)[:, None, None] / 4
        return (values * gain + 0.5 * np.arange(N_SESSIONS)[:, None, None]).astype(np.float64)

    def write(self):
        self.write_tables()
        self._write_coco()
        self._write_pictures()
        for subject in SUBJECTS:
            self._write_volumes(subject)
        self.write_surface()
        return self

    def write_tables(self):
        import scipy.io

        place = self.folder / "nsddata" / "experiments" / "nsd"
        place.mkdir(parents=True)
        scipy.io.savemat(
            place / "nsd_expdesign.mat",
            {
                "masterordering": self.order[None].astype(float),
                "subjectim": self.images.astype(float),
                "sharedix": np.arange(1, N_SHARED + 1)[None].astype(float),
            },
        )
        header = ["", "cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"]
        header += [f"subject{s + 1}_rep{k}" for s in range(8) for k in range(3)]
        with (place / "nsd_stim_info_merged.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for image in range(self.n_images):
                reps = []
                for subject in SUBJECTS:
                    trials = np.flatnonzero(self.shown(subject) == image) + 1
                    reps += [*trials.tolist(), 0, 0, 0][:3]
                reps += [0] * (8 - len(SUBJECTS)) * 3
                split = "train2017" if image % 3 else "val2017"
                row = [image, 1000 + image, split, "(0,0,0,0)", 0.0, image, False, False, image < N_SHARED, *reps]
                writer.writerow(row)
        for subject in SUBJECTS:
            place = self.folder / "nsddata" / "ppdata" / subject / "behav"
            place.mkdir(parents=True)
            lines = ["SUBJECT\tSESSION\tRUN\tTRIAL\t73KID\t10KID"]
            lines += [
                f"{SUBJECTS.index(subject) + 1}\t{t // N_TRIALS + 1}\t1\t{t % N_TRIALS + 1}\t{image + 1}\t{self.order[t]}"
                for t, image in enumerate(self.shown(subject))
            ]
            (place / "responses.tsv").write_text("\n".join(lines) + "\n")

    def _write_coco(self):
        place = self.folder / "annotations"
        place.mkdir(parents=True)
        for split, chosen in (("train2017", lambda i: i % 3), ("val2017", lambda i: not i % 3)):
            ids = [1000 + i for i in range(self.n_images) if chosen(i)]
            captions = [
                {
                    "image_id": i,
                    "id": 10 * i + k,
                    "caption": f"A picture number {i} of a dog, said {k}.\n" if k == 4 else f"Said {k} of {i}.",
                }
                for i in ids
                for k in (4, 0, 3, 1, 2)
            ]
            content = {"images": [{"id": i} for i in ids], "annotations": captions}
            (place / f"captions_{split}.json").write_text(json.dumps(content))
            objects = [{"image_id": i, "category_id": CATEGORIES[i % 3][0], "id": i} for i in ids if i % 5]
            names = [{"id": number, "name": name} for number, name in CATEGORIES]
            content = {"images": [], "annotations": objects, "categories": names}
            (place / f"instances_{split}.json").write_text(json.dumps(content))

    def _write_pictures(self):
        import h5py

        place = self.folder / "nsddata_stimuli" / "stimuli" / "nsd"
        place.mkdir(parents=True)
        bricks = np.random.default_rng([self.seed, 3]).integers(0, 256, (self.n_images, 16, 16, 3), dtype=np.uint8)
        with h5py.File(place / "nsd_stimuli.hdf5", "w") as file:
            file["imgBrick"] = bricks

    def _write_volumes(self, subject):
        import nibabel

        grid = GRIDS[subject]
        roi = self.folder / "nsddata" / "ppdata" / subject / "func1pt8mm" / "roi"
        roi.mkdir(parents=True)
        labels = np.random.default_rng([self.seed, 4]).permutation(np.arange(np.prod(grid)) % 9 - 1).reshape(grid)
        nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), np.eye(4)), roi / "streams.nii.gz")
        # subj02 lacks the second region
        faces = np.where(labels == 1, 1, np.where((labels == 5) & (subject == SUBJECTS[0]), 2, 0))
        nibabel.save(nibabel.Nifti1Image(faces.astype(np.int16), np.eye(4)), roi / "floc-faces.nii.gz")
        table = self.folder / "nsddata" / "freesurfer" / subject / "label"
        table.mkdir(parents=True)
        (table / "floc-faces.mgz.ctab").write_text("0 Unknown\n1 OFA\n2 FFA-1\n")
        (table / "streams.mgz.ctab").write_text("".join(f"{n} {name}\n" for n, name in STREAMS.items()))
        place = self.folder / "nsddata_betas" / "ppdata" / subject / "func1pt8mm" / BETAS
        place.mkdir(parents=True)
        ratio = self.ncsnr(subject, int(np.prod(grid))).reshape(grid)
        nibabel.save(nibabel.Nifti1Image(ratio, np.eye(4)), place / "ncsnr.nii.gz")
        for session, betas in enumerate(self.trials(subject, int(np.prod(grid))), 1):
            volume = np.rint(betas * 300).astype(np.int16).reshape(N_TRIALS, *grid)
            self.write_session(place / f"betas_session{session:02d}{self.suffix}", volume)

    def ncsnr(self, subject, n_units):
        """(n_units,) the ratio that the release states."""
        rng = np.random.default_rng([self.seed, 5, SUBJECTS.index(subject)])
        return rng.uniform(0.1, 1.0, n_units).astype(np.float32)

    def write_session(self, path, volume):
        """``volume`` (n_trials, x, y, z)."""
        import h5py
        import nibabel

        if path.name.endswith(".nii.gz"):
            nibabel.save(nibabel.Nifti1Image(np.moveaxis(volume, 0, -1), np.eye(4)), path)
        else:
            with h5py.File(path, "w") as file:
                file["betas"] = volume.transpose(0, 3, 2, 1)  # MATLAB's axes, reversed

    def write_surface(self):
        import nibabel

        place = self.folder / "nsddata" / "freesurfer" / "fsaverage" / "label"
        place.mkdir(parents=True)
        (place / "streams.mgz.ctab").write_text("".join(f"{n} {name}\n" for n, name in STREAMS.items()))
        parts = np.split(self.surface_labels, [self.n_vertices[0]])
        for hemisphere, part in zip(("lh", "rh"), parts, strict=True):
            image = nibabel.MGHImage(part.astype(np.float32)[:, None, None], np.eye(4))
            nibabel.save(image, place / f"{hemisphere}.streams.mgz")
        for subject in SUBJECTS:
            place = self.folder / "nsddata_betas" / "ppdata" / subject / "fsaverage" / BETAS
            place.mkdir(parents=True)
            ratios = np.split(self.ncsnr(subject, sum(self.n_vertices)), [self.n_vertices[0]])
            for hemisphere, part in zip(("lh", "rh"), ratios, strict=True):
                image = nibabel.MGHImage(part[:, None, None], np.eye(4))
                nibabel.save(image, place / f"{hemisphere}.ncsnr.mgh")
            for session, betas in enumerate(self.trials(subject, sum(self.n_vertices)), 1):
                for hemisphere, part in zip(("lh", "rh"), np.split(betas, [self.n_vertices[0]], axis=1), strict=True):
                    image = nibabel.MGHImage(part.T.astype(np.float32)[:, None, None, :], np.eye(4))
                    nibabel.save(image, place / f"{hemisphere}.betas_session{session:02d}.mgh")
