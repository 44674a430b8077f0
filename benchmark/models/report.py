# SPDX-License-Identifier: Apache-2.0
"""What happened while the states of one story were read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExtractionReport:
    """Counts of one call of ``states``; shares are of the story's words.

    Attributes
    ----------
    story : its name.
    n_words : of the story.
    n_shortened : words that saw fewer words than the policy says, because the model's input is too short.
    n_reaching_on : words with a token that ends after the word (read as prefixes by a causal model).
    n_out_of_vocabulary : words without a vector (static tables only).
    largest_batch : texts in the largest batch that was read.
    """

    story: str
    n_words: int
    n_shortened: int = 0
    n_reaching_on: int = 0
    n_out_of_vocabulary: int = 0
    largest_batch: int = 0

    @property
    def context_shortened(self) -> float:
        return self.n_shortened / self.n_words

    @property
    def out_of_vocabulary(self) -> float:
        return self.n_out_of_vocabulary / self.n_words
