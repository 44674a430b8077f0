# SPDX-License-Identifier: Apache-2.0
"""Data set cards: what a data set is, under which licence, which bytes, and how it is split."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from voxelboard._resources import cards_folder
from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.card_sources import CardFile, FilePattern, Name, Source, Strict, Text

MAX_CARD_BYTES = 1_000_000


class Licence(Strict):
    """Under which terms the data may be used."""

    name: Text
    """SPDX identifier where there is one, e.g. CC-BY-4.0."""
    url: Annotated[str, Field(pattern=r"^https?://")]


class Citation(Strict):
    """What a user of the data cites."""

    bibtex: Annotated[str, Field(pattern=r"^@\w+\{")]
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,}/\S+$")] | None = None


class StorySplit(Strict):
    """One outer fold: train stories, test stories."""

    kind: Literal["stories"]
    train: Annotated[tuple[Text, ...], Field(min_length=1)]
    test: Annotated[tuple[Text, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_story_on_both_sides(self) -> Self:
        both = sorted(set(self.train) & set(self.test))
        if both:
            raise ValueError(f"stories in train and in test: {', '.join(both)}")
        return self


class SegmentSplit(Strict):
    """A single story, cut into contiguous segments that are left out in turn."""

    kind: Literal["segments"]
    story: Text
    n_segments: Annotated[int, Field(ge=2)]


class StoryWindow(Strict):
    """One story of a data set in which every story has its own listeners; a data set of its own, opened by name."""

    task: Text
    """As the names of the scans spell it."""
    transcript: Text
    """As the folder of the aligned words is called."""
    audio_start_s: Annotated[float, Field(ge=0)]
    """Seconds from the first volume of the scan to the start of the audio file, the zero of the word times."""
    story_onset_s: Annotated[float, Field(ge=0)]
    """Seconds from the first volume to the first word, as the event files round it."""
    onset_trs: Annotated[int, Field(ge=0)]
    """First volume of the story."""
    n_trs: Annotated[int, Field(gt=0)]
    n_segments: Annotated[int, Field(ge=3)]
    """Contiguous segments that are left out in turn."""
    subjects: Annotated[tuple[Text, ...], Field(min_length=2)]
    excluded_scans: tuple[Text, ...] = ()
    """Scans that the source's own quality control leaves out, as ``sub-001_task-pieman_run-1``."""


class WindowSplit(Strict):
    """Several single-story data sets on one card, each cut into segments."""

    kind: Literal["windows"]
    stories: Annotated[dict[Text, StoryWindow], Field(min_length=1)]


class GroupSplit(Strict):
    """Groups (passages of one topic, stories, runs) make folds of nearly equal size, and each fold is left out in turn."""

    kind: Literal["groups"]
    of: Text
    """What a group is: passages of one topic, a story."""
    n_folds: Annotated[int, Field(ge=2)]


class FilmEpisode(Strict):
    """Runs that continue one another; every run but the first starts with seconds of the run before."""

    runs: Annotated[dict[Text, Annotated[int, Field(gt=0)]], Field(min_length=1)]
    """Run -> seconds, with the overlap, in order."""
    test: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _test_runs_are_the_last(self) -> Self:
        names = tuple(self.runs)
        if self.test != names[len(names) - len(self.test) :]:
            raise ValueError(f"test runs {', '.join(self.test)} are not the last runs of {', '.join(names)}")
        return self


class FilmTitle(Strict):
    """One film or series; no inner fold holds a part of it."""

    fold: Annotated[int, Field(ge=0)]
    """Inner fold of its training runs."""
    episodes: Annotated[tuple[FilmEpisode, ...], Field(min_length=1)]


class FilmSplit(Strict):
    """Films cut into runs: the last runs of each title are test."""

    kind: Literal["films"]
    overlap_s: Annotated[int, Field(ge=0)]
    """Seconds at the start of a run that repeat the run before and are not scored."""
    titles: Annotated[dict[Text, FilmTitle], Field(min_length=2)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        runs = [run for title in self.titles.values() for episode in title.episodes for run in episode.runs]
        twice = sorted({run for run in runs if runs.count(run) > 1})
        if twice:
            raise ValueError(f"runs are listed twice: {', '.join(twice)}")
        if len({title.fold for title in self.titles.values()}) < 2:
            raise ValueError("all titles are in one inner fold")
        if not any(episode.test for title in self.titles.values() for episode in title.episodes):
            raise ValueError("no run is test")
        return self


class ImageSplit(Strict):
    """Images of which all subjects saw some, the test images, and each subject others."""

    kind: Literal["images"]
    test: Text
    """Which images are the test images, in words."""
    n_test: Annotated[int, Field(ge=1)]


class RoiSet(Strict):
    """A parcellation: the labels that voxels can have."""

    name: Text
    labels: Annotated[tuple[Text, ...], Field(min_length=1)]


class PublishedCeiling(Strict):
    """A ceiling that a publication reports, to compare with."""

    what: Text
    value: float
    source: Text


class Card(Strict):
    """One version of one data set."""

    schema_version: Literal[1]
    name: Name
    """What users type."""
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    """Of the card: other bytes, split or reading are another version."""
    title: Text
    kind: Literal["real", "simulated"]
    task: TaskName
    licence: Licence
    terms: Text | None = None
    """Terms that a user must accept before the first use, or null."""
    citation: Citation
    source: Source
    files: tuple[CardFile, ...] = ()
    file_patterns: tuple[FilePattern, ...] = ()
    reader: Literal[
        "simulated",
        "lebel2023_pcs",
        "alice2016",
        "lebel2023",
        "narratives",
        "pereira2018",
        "tuckute2024",
        "blank2014",
        "simulated_sentences",
        "lepetitprince",
        "simulated_drama",
        "ds005531",
        "simulated_captions",
        "nsd",
        "simulated_ablation",
    ]
    options: dict[str, str] = Field(default_factory=dict)
    """Choices that the reader leaves open, each with its reason in the notes."""
    stimuli: Text | None = None
    """What was presented: how much of it, in which language, how."""
    tr_s: Annotated[float, Field(gt=0)]
    """Repetition time, seconds; 1 where a row is a sentence."""
    subjects: Annotated[tuple[Text, ...], Field(min_length=1)]
    n_voxels: dict[Text, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    """Subject -> voxels of each file, where the source says so; another number is refused."""
    not_heard: dict[Text, tuple[Text, ...]] = Field(default_factory=dict)
    """Subject -> training stories that the source does not have of this subject."""
    split: Annotated[
        StorySplit | SegmentSplit | WindowSplit | GroupSplit | FilmSplit | ImageSplit, Field(discriminator="kind")
    ]
    ceiling_kind: Literal["repeats", "inter_subject", "none"]
    ceiling_rule: Text | None = None
    """How the literature estimates the ceiling of this data set, and what is done here."""
    published_ceilings: tuple[PublishedCeiling, ...] = ()
    roi_sets: Annotated[tuple[RoiSet, ...], Field(min_length=1)]
    scored_rois: Annotated[tuple[Text, ...], Field(min_length=1)]
    """The headline is the mean over these."""
    roi_order: tuple[Text, ...] = ()
    """Regions from early to late, where the source or the literature gives an order of them."""
    known_defects: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of the files whose size is known."""
        return sum(file.n_bytes or 0 for file in self.files)

    @property
    def can_be_fetched(self) -> bool:
        """Whether ``voxelboard data fetch`` can get all of its files."""
        if self.source.kind in ("generated", "path"):
            return False
        listed = self.source.location is not None
        return all(listed or file.url is not None for file in self.files) and all(
            listed or pattern.archive is not None for pattern in self.file_patterns
        )

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        labels = {label for rois in self.roi_sets for label in rois.labels}
        unknown = [roi for roi in self.scored_rois if roi not in labels]
        if unknown:
            raise ValueError(f"scored_rois that no roi_set has: {', '.join(unknown)}")
        strangers = [roi for roi in self.roi_order if roi not in labels]
        if strangers:
            raise ValueError(f"roi_order with regions that no roi_set has: {', '.join(strangers)}")
        for what, names in (("subjects", self.subjects), ("files", tuple(file.path for file in self.files))):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} are listed twice")
        owners = {file.subject for file in self.files if file.subject is not None}
        for what, subjects in (
            ("n_voxels", set(self.n_voxels)),
            ("not_heard", set(self.not_heard)),
            ("files", owners),
        ):
            strangers = sorted(subjects - set(self.subjects))
            if strangers:
                raise ValueError(f"{what} of unknown subjects: {', '.join(strangers)}")
        if (self.kind == "simulated") != (self.source.kind == "generated"):
            raise ValueError("simulated data, and no other, have the source 'generated'")
        return self


def card_schema() -> str:
    """The JSON Schema of a card, as committed in ``datasets/schema.json``."""
    schema = Card.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def list_cards(folder: Path | None = None) -> tuple[str, ...]:
    """The names of all cards, sorted."""
    return tuple(sorted(path.stem for path in (folder or cards_folder()).glob("*.yaml")))


def load_card(name: str, folder: Path | None = None) -> Card:
    """The card called ``name``.

    Raises
    ------
    UserError
        for an unknown name (with the nearest one), and for a card that does not validate.
    """
    folder = folder or cards_folder()
    names = list_cards(folder)
    if name not in names:
        raise unknown_name("data set", name, names, "voxelboard data list shows what there is")
    return read_card(folder / f"{name}.yaml")


def read_card(path: Path) -> Card:
    """Read and validate one card; its file must be called as its ``name``.

    Raises
    ------
    UserError
        that names the file, the key, what was got and what is allowed.
    """
    value = _load_yaml(path)
    try:
        card = Card.model_validate_json(json.dumps(value))
    except (TypeError, ValueError) as error:
        problems = _problems(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(
            f"{path.name} is not a valid card: {problems}", "datasets/schema.json says what is allowed"
        ) from error
    if card.name != path.stem:
        raise UserError(f"{path.name} holds the card {card.name!r}", f"call the file {card.name}.yaml")
    return card


class _NoAliases(yaml.SafeLoader):
    """Safe YAML without anchors: a short text must not unfold into a large one."""

    def compose_node(self, parent: yaml.nodes.Node | None, index: int) -> yaml.nodes.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", self.get_mark())
        return super().compose_node(parent, index)


def _load_yaml(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read the card {path}: {error.strerror}") from error
    if len(data) > MAX_CARD_BYTES:
        raise UserError(f"{path.name} is larger than {MAX_CARD_BYTES} bytes; a card lists files, it does not hold them")
    try:
        return yaml.load(data, Loader=_NoAliases)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path.name} is not YAML: {reason}") from error


_PARTS: dict[str, type[Strict]] = {
    "licence": Licence,
    "citation": Citation,
    "source": Source,
    "files": CardFile,
    "file_patterns": FilePattern,
    "roi_sets": RoiSet,
    "published_ceilings": PublishedCeiling,
}


def _problems(error: ValidationError) -> str:
    """All problems of a card in one line each."""
    lines = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "card"
        if problem["type"] == "extra_forbidden":
            model = _PARTS.get(str(problem["loc"][0]), Card) if len(problem["loc"]) > 1 else Card
            lines.append(f"{where}: {unknown_name('key', str(problem['loc'][-1]), model.model_fields).message}")
        else:
            got = "" if problem["type"] == "missing" else f", got {str(problem['input'])[:60]!r}"
            lines.append(f"{where}: {problem['msg']}{got}")
    return "; ".join(lines)
