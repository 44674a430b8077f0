# SPDX-License-Identifier: Apache-2.0
"""Scenes, their pictures and captions: what is drawn can be seen, what is said can be read back."""

from collections import Counter

import numpy as np
import pytest

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.stimuli.caption_grammar import (
    MEANINGS,
    describe,
    every_symbol,
    read_caption,
    scene_reading,
    scene_symbols,
)
from voxelboard.benchmark.stimuli.captions import captioned_images, picture_statistics
from voxelboard.benchmark.stimuli.scenes import (
    ACTIONS,
    COLOURS,
    KINDS,
    PLACES,
    RELATIONS,
    Actor,
    Scene,
    draw_scene,
    picture,
)

RED_DOG = Actor("dog", "red", "small", 1)
BLUE_CAT = Actor("cat", "blue", "large", 2)


def scenes(n, seed=0):
    rng = np.random.default_rng(seed)
    return [draw_scene(rng) for _ in range(n)]


def test_every_caption_says_the_relation_of_its_scene_whatever_its_form():
    rng = np.random.default_rng(1)
    for scene in scenes(200):
        for caption in describe(scene, rng):
            reading = read_caption(caption)
            name, first, second = reading.relation
            kinds = [kind for kind, _ in reading.actors]
            assert (name, kinds[first], kinds[second]) == (scene.relation, scene.first.kind, scene.second.kind)
            said = dict(reading.actors)
            for actor in (scene.first, scene.second):
                assert {s.name for s in said[actor.kind]} <= {actor.colour, actor.size, str(actor.count)}
            assert set(reading.symbols) <= set(scene_symbols(scene))


def test_five_paraphrases_of_a_scene_are_five_sentences():
    rng = np.random.default_rng(2)
    for scene in scenes(50):
        captions = describe(scene, rng)
        assert len(captions) == 5
        assert len(set(captions)) == 5
        assert all(c[0].isupper() and c.endswith(".") and "  " not in c for c in captions)


def test_a_passive_turns_who_does_what_and_single_words_do_not_say_it():
    active, passive = "A red dog chases two blue cats.", "A red dog is chased by two blue cats."
    assert read_caption(active).relation == ("chase", 0, 1)
    assert read_caption(passive).relation == ("chase", 1, 0)
    assert Counter(read_caption(active).symbols) == Counter(read_caption(passive).symbols)
    assert read_caption("two blue dogs chase a red cat").actors != read_caption("a red dog chases two blue cats").actors


def test_scrambled_text_does_not_say_what_the_caption_said():
    text = "cats dog a blue chases two red"
    assert set(read_caption(text).symbols) == set(read_caption("A red dog chases two blue cats.").symbols)
    assert read_caption(text).relation is None
    assert read_caption("").symbols == ()


def test_every_part_of_a_scene_has_a_word():
    names = {symbol.name for symbol in every_symbol()}
    assert {*KINDS, *COLOURS, *PLACES, *RELATIONS} <= names
    assert set(MEANINGS.values()) == set(every_symbol())
    assert scene_reading(Scene(RED_DOG, "chase", BLUE_CAT, "park", "slowly")).relation == ("chase", 0, 1)


def pixels(scene, seed=0):
    return picture(scene, np.random.default_rng(seed)).astype(float)


def test_every_fact_changes_the_picture():
    scene = Scene(RED_DOG, "left of", BLUE_CAT, "park", "slowly")
    changed = [
        Scene(Actor("horse", "red", "small", 1), "left of", BLUE_CAT, "park", "slowly"),
        Scene(Actor("dog", "white", "small", 1), "left of", BLUE_CAT, "park", "slowly"),
        Scene(Actor("dog", "red", "large", 1), "left of", BLUE_CAT, "park", "slowly"),
        Scene(Actor("dog", "red", "small", 3), "left of", BLUE_CAT, "park", "slowly"),
        Scene(RED_DOG, "above", BLUE_CAT, "park", "slowly"),
        Scene(BLUE_CAT, "left of", RED_DOG, "park", "slowly"),
        Scene(RED_DOG, "left of", BLUE_CAT, "snow", "slowly"),
    ]
    for other in changed:
        assert (np.abs(pixels(scene) - pixels(other)).max(axis=2) > 30).sum() > 20
    pictures = {action: pixels(Scene(RED_DOG, action, BLUE_CAT, "park", "slowly")) for action in ACTIONS}
    for action in ACTIONS[1:]:
        assert np.abs(pictures[action] - pictures[ACTIONS[0]]).max() > 100


def test_pictures_are_reproducible_and_kinds_look_different():
    scene = scenes(1)[0]
    assert np.array_equal(pixels(scene, 3), pixels(scene, 3))
    alone = [pixels(Scene(Actor(k, "red", "large", 1), "left of", BLUE_CAT, "snow", "slowly"))[:, :32] for k in KINDS]
    for i, one in enumerate(alone):
        for other in alone[:i]:
            assert np.abs(one - other).max() > 50


def test_picture_statistics_of_plain_pictures():
    grey = np.full((1, 16, 16, 3), 51, dtype=np.uint8)
    row = picture_statistics(grey)[0]
    assert row[0] == pytest.approx(0.2)
    assert row[[1, 5]] == pytest.approx(0.0, abs=1e-12)
    halves = grey.copy()
    halves[:, :, 8:] = 255
    row = picture_statistics(halves)[0]
    assert row[0] == pytest.approx(0.6)
    assert row[6:].reshape(4, 4)[0] == pytest.approx([0.2, 0.2, 1.0, 1.0])
    assert row[5] == pytest.approx(0.8 / 15)


def build(n=120, **changes):
    arguments = {
        "ids": np.arange(n)[::-1] * 2,
        "captions": [(f"caption {i}", "other") for i in range(n)],
        "categories": np.eye(n, 3, dtype=bool),
        "category_names": ("a", "b", "c"),
    }
    return captioned_images(**{**arguments, **changes})


def test_images_are_sorted_and_found_by_their_id():
    images = build()
    assert images.ids.tolist() == list(range(0, 240, 2))
    assert images.captions[images.rows([238])[0]] == ("caption 0", "other")
    assert images.subset([4, 0]).captions == (("caption 119", "other"), ("caption 117", "other"))
    with pytest.raises(DataError, match="first is image 3"):
        images.rows([2, 3])
    assert images.sha256() == build().sha256()
    assert images.sha256() != build(category_names=("a", "b", "d")).sha256()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"captions": [(f"c{i}",) if i != 7 else () for i in range(120)]}, "1 images without captions .* image 224"),
        ({"captions": [(f"c{i}", " ") if i == 2 else ("c",) for i in range(120)]}, "image 234"),
        ({"ids": np.r_[np.arange(119), 5]}, "image 5 is listed twice"),
        ({"categories": np.zeros((120, 2))}, "category table"),
        ({"low_level": np.full((120, 2), np.nan)}, "not all finite"),
    ],
)
def test_what_cannot_be_used_is_refused(changes, match):
    with pytest.raises(DataError, match=match):
        build(**changes)


def test_fewer_than_100_images_are_refused():
    with pytest.raises(DataError, match="99 images; the task needs 100"):
        build(99)
