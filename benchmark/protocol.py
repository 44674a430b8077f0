# SPDX-License-Identifier: Apache-2.0
"""Every constant of the measurement, frozen and versioned.

Read it as the methods section's table of parameters. ``Protocol.hash_of`` its task is stamped on every record: change a
constant and old scores are no longer comparable, so a change is a new version, never an edit.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from voxelboard.benchmark.errors import unknown_name

TaskName = Literal["narrative", "drama", "captions", "ablation"]


@dataclass(frozen=True)
class ContextPolicy:
    """Which words a model has seen when the state of a word is read.

    Word ``i`` sees words ``chunk_start(i) .. i``, the same words for every model and tokenizer. Chunks start every
    ``stride_words`` words; a word is read in the chunk that gives it a context of ``stride_words`` to
    ``2 * stride_words - 1`` preceding words (fewer only at the start of a story). A causal model reads a chunk in
    one pass; others are shown each prefix by itself and so never see a future word.
    """

    # 64..127 preceding words: fits 512-token models at 4 tokens a word; prediction of fMRI grows little beyond
    # (Antonello et al. 2023 read 256-512 tokens). Strided chunks cost 2 forwards a token instead of one a word.
    stride_words: int = 64

    def chunk_start(self, word: int) -> int:
        """Index of the first word that word number ``word`` (0-based) sees."""
        return max(0, (word // self.stride_words - 1) * self.stride_words)


@dataclass(frozen=True)
class DesignPolicy:
    """From word states to the design matrix: pooling, resampling, trimming, filtering, delays."""

    token_pooling: Literal["mean", "last"] = "mean"  # sums leak word length (F7); "last" is for the open track
    # causal mean of the words that start in a TR; Lanczos-3 leaks 3 TRs of future (statistics.md E7)
    resampling: Literal["tr_mean", "lanczos3"] = "tr_mean"
    delays_trs: tuple[int, ...] = (1, 2, 3, 4)  # FIR, as in Huth et al. 2016; never across a story boundary
    trim_trs: int = 5  # both ends of a segment: onset transients shared by repeats inflate ceilings (B5)
    high_pass_s: float = 120.0  # DCT; without it no surrogate test is calibrated under drift (A2)
    constant_tolerance: float = 1e-8  # a feature whose sd is below this share of the largest is dropped


@dataclass(frozen=True)
class SentencePolicy:
    """What replaces the design policy where a row is a sentence: one amplitude, no time.

    A word sees its own passage up to itself, a sentence is the mean of its words. Nothing is delayed or trimmed, and of a
    group of passages that is left out together only the mean is removed: there is no drift to filter.
    """

    delays_rows: tuple[int, ...] = (0,)
    trim_rows: int = 0
    filtered: Literal["mean"] = "mean"

    def design(self, policy: DesignPolicy) -> DesignPolicy:
        """The design policy for rows that are sentences."""
        return replace(policy, delays_trs=self.delays_rows, trim_trs=self.trim_rows, high_pass_s=math.inf)


@dataclass(frozen=True)
class EncodingPolicy:
    """Ridge regression and what is chosen inside the training data."""

    # relative to trace(K)/n of the training Gram, so that one grid suits every width (statistics.md I)
    relative_alphas: tuple[float, ...] = tuple(10.0 ** (-3 + 7 * i / 9) for i in range(10))
    n_inner_folds: int = 5  # of whole training segments
    alpha_selection: Literal["squared_error"] = "squared_error"  # by correlation costs a third of H (D4)
    layer_selection: Literal["inner_pooled"] = "inner_pooled"  # pooled cov/sqrt(varP varY), fold-held-out alpha


@dataclass(frozen=True)
class ConfoundPolicy:
    """The confound band of H_u (statistics.md 2.3): what a score must explain beyond."""

    story_onset_decay_words: float = 30.0
    length_bins: int = 5  # one-hot, edges are training quantiles: bounded, so no extrapolation (F6)
    position_bins: int = 5
    frequency_bins: int = 5  # of log word frequency, for data sets with a table of counts
    # Down to 1e-6: with 1e-4 as the smallest, on 30,000 training TRs the confounds themselves keep an H_u of .037-.040
    # (lebel2023-pcs), because the ridge leaves their weak directions in the residuals.
    relative_lambdas: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    # Columns of the test-side projector per test TR. It is spanned by the confounds at the design's delays and through
    # the HRF, and by their derivatives: with the HRF alone the confounds keep .021-.024, with both .002-.004.
    max_projection_share: float = 0.2


@dataclass(frozen=True)
class ScorePolicy:
    """Blocks, intervals, ranks and canaries (statistics.md 2.2-2.5)."""

    stored_block_trs: int = 5
    inference_block_trs: int = 15  # 30 s at TR 2 s: pair coverage .970-.987 (H2)
    confidence: float = 0.95
    gate_standard_errors: float = 3.0  # a ROI enters when its signal power exceeds this many block SEs
    n_twins: int = 3
    oasm_sigma_trs: float = 1.8
    oasm_limit: float = 0.005  # E1, share of variance: above it the run is aborted
    noise_brain_limit: float = 0.02  # E2, mean raw r
    noise_brain_voxels: int = 512  # the mean r of 512 null voxels has a standard error of .003 on 240 test TRs
    residual_sd_range: tuple[float, float] = (0.9, 1.15)  # F6: test/train residual SD, an alarm outside


@dataclass(frozen=True)
class DiagnosticsPolicy:
    """Significance, and the columns that say what a headline depends on. None of it ranks."""

    n_permutations: int = 1000
    permutation_block_trs: int = 25  # FPR .048-.058 on context-like features with drift, 10 TRs reach .074 (A1)
    fdr: float = 0.05
    expected_share: float = 0.1  # of voxels with an effect, decides whether the draws are enough to count (A5)
    capacity_components: int = 50  # width of the capacity-matched column
    train_shares: tuple[float, ...] = (0.25, 0.5)
    # Not chosen: nothing projects static vectors out of test predictions, and the lambda that is best for all columns of a
    # model would leave them in where the other columns are noise (static vectors beside four noise columns: .85, here .04).
    static_lambda: float = 1e-4
    most_residual_growth: float = 2.0  # test over training SD of residuals, above which they enter no joint prediction
    least_residual_share: float = 0.01  # of a layer's power, below which confounds (and static vectors) are all of it


@dataclass(frozen=True)
class DramaPolicy:
    """From annotations of films to the banded model of the task drama. Times in seconds."""

    window_s: int = 1  # text of the present second alone, cw1: the headline of Nakagi et al. 2024
    # Averaged over these shifts, as there. One weight a feature: FIR delays would multiply the columns of five levels.
    delays_s: tuple[float, ...] = (8.0, 9.0, 10.0)
    # Sound, picture and the form of texts act at the latency of the response itself, so their delays are FIR and early;
    # the late ones take what the form of the texts does at the levels' own delays.
    confound_delays_s: tuple[float, ...] = (3.0, 5.0, 7.0, 9.0, 11.0)
    # At most so many principal components a level (the paper's number), and one per so many training TRs: the ridge of
    # a few hours has no use for more, and the search costs the cube of the columns.
    n_components: int = 1280
    trs_per_component: int = 20
    n_draws: int = 24  # of band weights, the first one uniform; the paper draws 100
    # Block length of the permutation test, TRs of 1 s: 10 (the paper's) has a false-positive rate of .07-.11 on features
    # that are held for 5 s and averaged over 3 s.
    permutation_block_trs: int = 40


@dataclass(frozen=True)
class CaptionsPolicy:
    """The task captions: sets of images, the control floor, the controls (Doerig et al. 2025, statistics.md 2.2-2.3)."""

    set_size: int = 100  # images of an RSA set, disjoint
    rdm_block_images: int = 20  # of the noise-corrected RSA on the test images: 190 pairs a block
    retrieval_k: tuple[int, ...] = (1, 5)
    # fractions of the fractional ridge: .05 .. 1; the published grid ends at 1.05, which no ridge reaches
    fractions: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 21))
    n_bins: int = 5  # one-hot, of caption length and number of categories; edges are training quantiles (F6)
    relative_lambdas: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    max_projection_share: float = 0.2  # columns of the test-side projector per test image
    min_word_distance: float = 0.2  # cosine; a random word of the same type is no synonym
    controls: tuple[str, ...] = (
        "multi-hot",
        "category string",
        "nouns",
        "verbs",
        "adjectives",
        "adverbs",
        "prepositions",
        "word average",
        "static vectors",
        "scrambled",
        "random words",
    )


@dataclass(frozen=True)
class AblationPolicy:
    """Which perturbations of the test stories a model reads (``stimuli.perturbations``), and in what pieces."""

    # Tags for a class of words, each with the control that replaces as many words at random (statistics.md G3); words of a
    # class in each other's places, which keeps the variance of what is read (G1, G2: a simulated region of
    # nouns, r .264: nouns swapped .240, verbs swapped .012, but verbs as tags -.025); orders at a small and a large Kendall distance; what is left without content or function
    # words; word lists; one word throughout.
    conditions: tuple[str, ...] = (
        *("noun", "verb", "content", "function"),
        *("random-noun", "random-verb", "random-content", "random-function"),
        *("swap-noun", "swap-verb", "swap-content", "swap-function"),
        *("shuffle-1", "shuffle-7", "backward", "word-list-by-class", "word-list"),
        *("keep-content", "keep-function", "constant"),
    )
    window_words: int = 10  # the "sentences" of a transcript that has none
    # Properties taken out of the representation instead of the text (Oota et al. 2023): how many words of the class a TR
    # has, 0, 1, ... as one-hot labels, the last for this many and more. Labels of TRs, because no task keeps states of
    # words; one-hot, because then no linear reader of a TR's state can tell the count.
    removals: tuple[str, ...] = ("noun", "verb")
    removal_most_words: int = 3


@dataclass(frozen=True)
class AttributionPolicy:
    """Explanations of the next-word prediction as features (Rahimi et al. 2025, arXiv 2502.14671).

    The paper's text fixes the methods and the ten preceding words. What it leaves open is fixed here, with the reason.
    """

    # words before the explained word, right-aligned: the last column is the word just before. Where a story has fewer,
    # the columns of the missing words are 0, as if they had no influence.
    context_words: int = 10
    # "gold": the word that was heard, all of its tokens. It was heard when its TR began, so the feature is causal; the
    # model's own favourite ("argmax", one token) says what the model would have said, not what the listener heard.
    target: Literal["gold", "argmax"] = "gold"
    # log p(word) = sum of log p(token | what is before it): additive over the tokens of a word and comparable between
    # models. A logit is defined up to a constant of its own at each position, so it does not compare words.
    score: Literal["log_probability", "logit"] = "log_probability"
    # x' of integrated gradients, conductance: the mean row of the embedding matrix. From the zero vector the path of a
    # model with RMS norms is discontinuous (the norm of a * x is the same for every a > 0): on stories260K 128 steps
    # leave a completeness error of 1.5 of f(x) - f(x'), from the mean vector 3e-6.
    baseline: Literal["mean", "zero"] = "mean"
    # Simpson panels of the path; more for the words that miss the tolerance. stories260K needs 64 for most words.
    path_panels: int = 16
    max_path_panels: int = 512
    # |sum of attributions - (f(x) - f(x'))| over the larger of |f(x) - f(x')| and the floor, which keeps words that
    # nothing explains from asking for the rounding error of float32
    completeness_tolerance: float = 1e-3
    completeness_floor: float = 0.1  # nats
    # erasure is three methods, because they are three questions: the attention mask hides the word from others, but the
    # last word still speaks through its own position; deletion moves the words before it; a zero vector does neither
    erasures: tuple[Literal["mask", "delete", "zero"], ...] = ("mask", "delete", "zero")
    # A word is the concatenation of its tokens and every formula is applied to that: sums over tokens, which keep
    # completeness. A token of two words counts half for each.
    word_pooling: Literal["concatenation"] = "concatenation"
    # attention of the positions that predict the word (mean), to each preceding word (sum over its tokens)
    attention_from: Literal["predicting_positions"] = "predicting_positions"
    # differences of scores and path sums need more digits than bfloat16 has
    dtype: Literal["float32"] = "float32"
    # draws of the bootstrap behind the intervals of the hierarchy
    n_draws: int = 1000


@dataclass(frozen=True)
class Protocol:
    """The whole measurement. ``name`` is what users type, ``hash_of(task)`` is what records carry."""

    name: str = "v1"
    scored: bool = True  # replication settings are not ranked
    context: ContextPolicy = field(default_factory=ContextPolicy)
    design: DesignPolicy = field(default_factory=DesignPolicy)
    sentences: SentencePolicy = field(default_factory=SentencePolicy)
    encoding: EncodingPolicy = field(default_factory=EncodingPolicy)
    confounds: ConfoundPolicy = field(default_factory=ConfoundPolicy)
    score: ScorePolicy = field(default_factory=ScorePolicy)
    diagnostics: DiagnosticsPolicy = field(default_factory=DiagnosticsPolicy)
    drama: DramaPolicy = field(default_factory=DramaPolicy)
    captions: CaptionsPolicy = field(default_factory=CaptionsPolicy)
    ablation: AblationPolicy = field(default_factory=AblationPolicy)
    attribution: AttributionPolicy = field(default_factory=AttributionPolicy)
    seed: int = 20261121

    def constants(self, task: TaskName | None = None) -> dict[str, Any]:
        """The constants as plain JSON values: all, or those that a task's scores depend on."""
        constants: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if task is None:
            return constants
        return {name: value for name, value in constants.items() if name in (*_SHARED, *TASK_SECTIONS[task])}

    def hash_of(self, task: TaskName) -> str:
        """SHA-256 of the canonical JSON of the task's constants. A record carries it: equal hashes may be compared."""
        return hash_json(self.constants(task))

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of every constant."""
        return hash_json(self.constants())


_SHARED: Final = ("name", "scored", "seed")
# Which sections the scores of a task depend on: a new constant of one task leaves the scores of the others comparable.
TASK_SECTIONS: Final[dict[TaskName, tuple[str, ...]]] = {
    "narrative": ("context", "design", "sentences", "encoding", "confounds", "score", "diagnostics"),
    "drama": ("design", "encoding", "confounds", "score", "diagnostics", "drama"),
    "captions": ("encoding", "score", "captions"),
    "ablation": ("context", "design", "encoding", "confounds", "score", "diagnostics", "ablation"),
}


def hash_json(value: Any) -> str:
    """SHA-256 hex digest of a JSON value in canonical form (sorted keys, no blanks, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


V1 = Protocol()
# Huth-lab resampling, for comparison with published maps; not causal, so never on the ranked board.
LANCZOS = replace(V1, name="v1-lanczos", scored=False, design=replace(V1.design, resampling="lanczos3"))

PROTOCOLS = {protocol.name: protocol for protocol in (V1, LANCZOS)}


def load_protocol(name: str) -> Protocol:
    """The frozen protocol called ``name``."""
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
