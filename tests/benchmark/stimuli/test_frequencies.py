# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError, MissingPrerequisite
from voxelboard.benchmark.features.confounds import confound_bins, confound_features
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.stimuli.frequencies import LOG_FREQUENCY, read_word_counts, with_log_frequency
from voxelboard.benchmark.stimuli.stories import Story, make_story


def story(words: list[str]) -> Story:
    onsets = np.arange(len(words)) * 1.0
    return make_story("s", words, onsets, onsets + 0.5, n_trs=len(words) // 2 + 1, tr=2.0)


def test_log_shares_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("word,count\nthe,900\nThe,50\ncat,50\n")
    counts = read_word_counts(tmp_path / "counts.csv")
    assert counts == {"the": 950.0, "cat": 50.0}
    column = with_log_frequency(story(["The", "cat,", "zyzzyva"]), counts).annotations[LOG_FREQUENCY]
    np.testing.assert_allclose(column[:, 0], np.log10([0.95, 0.05, 0.05]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word,number\na,1\n", "expected word and count"),
        ("word,count\na,1\nb,-2\n", "line 3: 'b', '-2'"),
        ("word,count\na,many\n", "line 2"),
        ("word,count\n", "holds no word"),
    ],
)
def test_tables_that_are_wrong_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_word_counts(tmp_path / "counts.csv")
    with pytest.raises(MissingPrerequisite, match="no table"):
        read_word_counts(tmp_path / "none.csv")


def test_frequency_becomes_a_bounded_confound_where_it_is_known() -> None:
    words = [f"w{k}" for k in range(40)]
    known = with_log_frequency(story(words), {word: 2.0**k for k, word in enumerate(words)})
    policy = V1.confounds
    bins = confound_bins([known], policy)
    assert bins.frequency is not None
    assert len(bins.frequency) == policy.frequency_bins - 1
    with_it = confound_features(known, bins, policy)
    without = confound_features(story(words), confound_bins([story(words)], policy), policy)
    assert with_it.shape[1] == without.shape[1] + 2 * policy.frequency_bins  # sums and means of one-hot columns
    # a rarer word than any of training falls into the lowest bin: nothing extrapolates
    rarer = with_log_frequency(story(["ww"] * 6), {word: 2.0**k for k, word in enumerate(["ww", *words] * 2)})
    assert confound_features(rarer, bins, policy)[:, 5:].max() <= 2.0
