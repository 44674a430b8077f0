# SPDX-License-Identifier: Apache-2.0
"""Stories whose words were ablated as a corpus was, at the times at which they were heard."""

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.stimuli.ablations import Ablation, ablate_words
from voxelboard.benchmark.stimuli.stories import Story, make_story
from voxelboard.benchmark.stimuli.syntax import Parser


def ablate_story(story: Story, ablation: Ablation, parser: Parser, seed: int = 0) -> Story:
    """The story as an ablation leaves it: every word that is still there keeps its own onset and offset.

    What stood between two words (a comma, a blank) stays between them. Annotations are left out: they are of other words.

    Raises
    ------
    DataError
        when no word is left.
    """
    words = ablate_words(story.text, story.spans, ablation, parser, seed)
    kept = [i for i, word in enumerate(words) if word is not None]
    if not kept:
        raise DataError(f"story {story.name!r}: no word is left by the ablation {ablation.name!r}")
    text, spans = "", []
    for position, i in enumerate(kept):
        word = words[i] or ""
        if position:
            before = story.text[story.spans[i - 1][1] : story.spans[i][0]]
            text += before if before.strip() or before.isspace() else " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return make_story(
        story.name,
        [words[i] or "" for i in kept],
        story.onsets[kept],
        story.offsets[kept],
        n_trs=story.n_trs,
        tr=story.tr,
        text=text,
        spans=spans,
        acoustics=story.acoustics,
    )
