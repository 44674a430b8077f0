# SPDX-License-Identifier: Apache-2.0
"""``voxelboard study list|corpus|perturb|run|report``: corpora without syntax or meaning, models trained on them, what it costs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import Device, Json, ProtocolName, Quiet, split_names

if TYPE_CHECKING:
    from voxelboard.benchmark.studies.ablation import StudyPlan
    from voxelboard.benchmark.studies.results import StudyResults

study_app = typer.Typer(
    help="Train models on corpora without some of their syntax or meaning, and compare how well they predict brains.",
    no_args_is_help=True,
)

_CLASSES = ("noun", "verb", "content", "function")
# each class with its control: as many words of every sentence, at random
DEFAULT_ABLATIONS = ("original", *_CLASSES, *(f"random-{name}" for name in _CLASSES))
Source = Annotated[Path, typer.Argument(help="Corpus: a file or a folder of .txt, .txt.gz, .jsonl or .parquet files.")]
Folder = Annotated[Path, typer.Option("--to", envvar="VOXELBOARD_STUDY", help="Folder of the study.", file_okay=False)]
Ablations = Annotated[
    list[str] | None,
    typer.Option(
        "--ablation",
        envvar="VOXELBOARD_ABLATION",
        help="Version of the corpus; comma-separated or several times. `list` shows all. PART=TAG,.. is one's own. "
        f"[default: {','.join(DEFAULT_ABLATIONS)}]",
        show_default=False,
    ),
]
Spoken = Annotated[
    bool,
    typer.Option(
        "--spoken/--written", envvar="VOXELBOARD_SPOKEN", help="Lower case without punctuation, or as it stands."
    ),
]
Share = Annotated[
    float, typer.Option("--share", envvar="VOXELBOARD_SHARE", help="Share of the passages, chosen by their text.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", envvar="VOXELBOARD_EXCLUDE", help="Files to leave out, as `lewis-carroll_*`."),
]
Seed = Annotated[int, typer.Option("--seed", envvar="VOXELBOARD_SEED", min=0, help="Of the random controls.")]
Workers = Annotated[int, typer.Option("--workers", envvar="VOXELBOARD_WORKERS", min=1, help="Processes that parse.")]
Preset = Annotated[str, typer.Option("--preset", envvar="VOXELBOARD_PRESET", help="Size of the models: small or full.")]
Seeds = Annotated[
    int, typer.Option("--seeds", envvar="VOXELBOARD_SEEDS", min=1, help="Models of each kind, with seeds 0, 1, ...")
]


@study_app.command("list")
def list_ablations(as_json: Json = False) -> None:
    """The versions that a corpus can be made in."""
    from voxelboard.benchmark.stimuli.ablations import ablation_names, load_ablation
    from voxelboard.benchmark.stimuli.syntax import load_parser

    parser = load_parser()
    rows = [(name, load_ablation(name, parser).summary) for name in ablation_names()]
    if as_json:
        put_json([{"ablation": name, "summary": summary} for name, summary in rows])
        return
    put_table(("ablation", "what it does"), rows)


@study_app.command()
def corpus(
    source: Source,
    to: Folder,
    ablation: Ablations = None,
    spoken: Spoken = False,
    share: Share = 1.0,
    exclude: Exclude = None,
    seed: Seed = 0,
    workers: Workers = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write ablated versions of a corpus, one folder each. Stopped, the same command goes on where it was."""
    from voxelboard.benchmark.stimuli.corpora import CorpusRequest, prepare_corpus

    request = CorpusRequest(source, to, _names(ablation), seed, spoken, share, tuple(exclude or ()))

    def progress(shards: int, passages: int) -> None:
        if not quiet:
            say(f"{passages:,} passages read, {shards} shards whole")

    made = prepare_corpus(request, workers=workers, progress=progress)
    if as_json:
        put_json([_manifest_json(manifest) for manifest in made.values()])
        return
    rows = [
        (name, f"{m.counts.words:,}", f"{m.counts.replaced:,}", f"{m.counts.removed:,}", m.sha256[:12])
        for name, m in made.items()
    ]
    put_table(("version", "words", "replaced", "removed", "sha256"), rows, right=(1, 2, 3))


@study_app.command()
def perturb(
    sentences: Annotated[
        Path,
        typer.Argument(
            help="One sentence a line, a blank line ends a passage; or .jsonl with text, passage and topic."
        ),
    ],
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            envvar="VOXELBOARD_PERTURBATION",
            help="Perturbation of the catalogue; comma-separated or several times. [default: all that these sentences allow]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", envvar="VOXELBOARD_SEED", min=0, help="Of random draws.")] = 42,
) -> None:
    """Print sentences with other orders, without classes of words, or in each other's places: a line of JSON each."""
    from voxelboard.benchmark.errors import UserError
    from voxelboard.benchmark.stimuli.perturbed_sentences import (
        perturb_sentences,
        read_sentences,
        sentence_perturbations,
    )

    given = read_sentences(sentences)
    for name in split_names(perturbation) or sentence_perturbations():
        try:
            texts = perturb_sentences(given, name, seed)
        except UserError as error:
            if perturbation:
                raise
            say(f"{name} left out: {error.message}")
            continue
        for sentence, text in zip(given, texts, strict=True):
            line = {"perturbation": name, **asdict(sentence), "text": text, "original": sentence.text}
            put(json.dumps(line, ensure_ascii=False))


def _manifest_json(manifest: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(manifest).items() if key != "shards"}


def _names(ablation: list[str] | None) -> tuple[str, ...]:
    """Names, comma-separated or not; a map of one's own holds commas and stays whole."""
    given = [name for value in ablation or [] for name in ([value] if "=" in value else split_names([value]) or [])]
    return tuple(dict.fromkeys(given or DEFAULT_ABLATIONS))


@study_app.command()
def run(
    source: Source,
    to: Folder,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", envvar="VOXELBOARD_STUDY_DATA", help="Narrative data sets; none trains only."),
    ] = None,
    ablation: Ablations = None,
    preset: Preset = "small",
    seeds: Seeds = 3,
    train_stories: Annotated[
        int | None,
        typer.Option(
            "--train-stories", envvar="VOXELBOARD_TRAIN_STORIES", min=2, help="Use only so many. [default: all]"
        ),
    ] = None,
    spoken: Spoken = True,
    share: Share = 1.0,
    exclude: Exclude = None,
    workers: Workers = 1,
    protocol: ProtocolName = "v1",
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Corpora, training and encoding, model by model. Stopped or killed, the same command goes on where it was."""
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.stimuli.corpora import CorpusRequest
    from voxelboard.benchmark.studies.ablation import StudyPlan, run_study, write_plan

    names = tuple(split_names(data) or ())
    request = CorpusRequest(source, to / "corpus", _names(ablation), 0, spoken, share, tuple(exclude or ()))
    plan = StudyPlan(
        folder=to,
        corpus=request,
        preset=preset,
        seeds=tuple(range(seeds)),
        datasets=names,
        n_train={name: train_stories for name in names if train_stories and name not in _SINGLE_STORY},
    )
    write_plan(plan)
    told: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        if not quiet and told[-1:] != [stage]:
            told.append(stage)
            say(f"{stage} ({done}/{total})" if total else stage)

    run_study(plan, load_protocol(protocol), workers=workers, device=device, progress=progress)
    put(str(to))


# One story, cut into segments that are left out in turn: the number of stories says nothing there.
_SINGLE_STORY = ("alice2016",)


@study_app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of the study.", exists=True, file_okay=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", envvar="VOXELBOARD_STUDY_OUTPUT", help="Folder of its results.")
    ] = Path("results/studies/ablation"),
    pictures: Annotated[
        Path | None, typer.Option("--pictures", envvar="VOXELBOARD_PICTURES", help="Folder of its pictures (SVG).")
    ] = None,
    protocol: ProtocolName = "v1",
    as_json: Json = False,
) -> None:
    """Deltas with intervals over subjects, story blocks and seeds, and the pictures, from what is scored so far."""
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.studies.ablation import read_plan
    from voxelboard.benchmark.studies.results import study_results, write_results

    plan = read_plan(folder)
    data = [open_dataset(name, "narrative") for name in plan.datasets]
    results, arrays = study_results(plan, output.name, data, load_protocol(protocol))
    write_results(output, results, arrays)
    if pictures is not None:
        _draw(output, pictures)
    if as_json:
        put_json(_report_json(results))
    else:
        _put_report(results, plan)
    say(f"results: {output}")


def _draw(output: Path, pictures: Path) -> None:
    from voxelboard.benchmark.atomic import replace_file
    from voxelboard.benchmark.study_tables import read_tables
    from voxelboard.leaderboard.study_pictures import study_pictures

    for name, text in study_pictures(read_tables(output)).items():
        replace_file(pictures / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]


def _report_json(results: "StudyResults") -> dict[str, Any]:
    from dataclasses import asdict

    content = asdict(results)
    for made in content["corpora"]:
        made.pop("shards")
    return content


def _put_report(results: "StudyResults", plan: "StudyPlan") -> None:
    say(f"{len(results.seeds)} of {len(plan.seeds)} seeds are complete")
    rows = [
        (q.dataset, q.architecture, q.ablation, q.text, q.kind, f"{q.estimate:.4f} [{q.low:.4f}, {q.high:.4f}]")
        for q in results.quantities
        if q.roi == "mean over regions"
    ]
    put_table(("data", "model", "corpus", "text", "what", "H_u [95 %]"), rows)
