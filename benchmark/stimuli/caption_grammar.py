# SPDX-License-Identifier: Apache-2.0
"""What people say of a scene: five paraphrases, and the reading of such a caption back into facts.

Paraphrases differ in voice (a dog chases a bird, a bird is chased by a dog), in the direction of a spatial relation
(left of, right of), in the order of clauses, in synonyms, and in what they leave out. Who does what to whom, and which colour
belongs to what, are said by word order alone: two scenes can have captions of the same words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from voxelboard.benchmark.stimuli.scenes import (
    ACTIONS,
    COLOURS,
    MANNERS,
    PLACES,
    Actor,
    Scene,
)

N_CAPTIONS: Final = 5

# kind -> singular and plural, twice: the usual word and a synonym
_NOUNS: Final = {
    "child": (("child", "children"), ("kid", "kids")),
    "woman": (("woman", "women"), ("lady", "ladies")),
    "man": (("man", "men"), ("gentleman", "gentlemen")),
    "dancer": (("dancer", "dancers"), ("dancer", "dancers")),
    "dog": (("dog", "dogs"), ("puppy", "puppies")),
    "cat": (("cat", "cats"), ("kitten", "kittens")),
    "bird": (("bird", "birds"), ("bird", "birds")),
    "horse": (("horse", "horses"), ("pony", "ponies")),
    "apple": (("apple", "apples"), ("apple", "apples")),
    "cake": (("cake", "cakes"), ("cake", "cakes")),
    "pizza": (("pizza", "pizzas"), ("pizza", "pizzas")),
    "banana": (("banana", "bananas"), ("banana", "bananas")),
    "ball": (("ball", "balls"), ("ball", "balls")),
    "box": (("box", "boxes"), ("crate", "crates")),
    "kite": (("kite", "kites"), ("kite", "kites")),
    "car": (("car", "cars"), ("automobile", "automobiles")),
}
_SIZE_WORDS: Final = {"small": ("small", "little"), "large": ("large", "big")}
_COUNT_WORDS: Final = {1: "a", 2: "two", 3: "three"}
_PLACE_PHRASES: Final = {
    "beach": "on the beach",
    "park": "in the park",
    "street": "on the street",
    "kitchen": "in the kitchen",
    "field": "in a field",
    "snow": "in the snow",
}
# action -> third person singular, plural, participle, passive participle
_VERBS: Final = {
    "chase": ("chases", "chase", "chasing", "chased"),
    "hold": ("holds", "hold", "holding", "held"),
    "watch": ("watches", "watch", "watching", "watched"),
    "push": ("pushes", "push", "pushing", "pushed"),
}
# spatial relation -> how it is said of the first, and of the second
_SPATIAL_PHRASES: Final = {
    "left of": ("to the left of", "to the right of"),
    "above": ("above", "below"),
    "behind": ("behind", "in front of"),
}
# How often a detail is left out of a caption.
_OMITTED: Final = {"colour": 0.15, "size": 0.35, "place": 0.2, "manner": 0.6}


def describe(scene: Scene, rng: np.random.Generator, n_captions: int = N_CAPTIONS) -> tuple[str, ...]:
    """``n_captions`` captions of one scene, each of another form as far as forms go."""
    forms = rng.permutation(5)
    return tuple(_caption(scene, int(forms[i % 5]), rng) for i in range(n_captions))


def _caption(scene: Scene, form: int, rng: np.random.Generator) -> str:
    first, second = _phrase(scene.first, rng), _phrase(scene.second, rng)
    place = "" if rng.random() < _OMITTED["place"] else _PLACE_PHRASES[scene.place]
    manner = "" if rng.random() < _OMITTED["manner"] else scene.manner
    if scene.relation in ACTIONS:
        said = _said_action(scene, first, second, manner, form)
    else:
        said = _said_position(scene, first, second, form)
    text = f"{place} {said}" if form == 3 and place else f"{said} {place}"
    text = " ".join(text.split())
    return text[0].upper() + text[1:] + "."


def _said_action(scene: Scene, first: str, second: str, manner: str, form: int) -> str:
    singular, plural, participle, passive = _VERBS[scene.relation]
    one, other = scene.first.count == 1, scene.second.count == 1
    return (
        f"{first} {manner} {singular if one else plural} {second}",
        f"{first} {manner} {participle} {second}",
        f"{second} {'is' if other else 'are'} {manner} {passive} by {first}",
        f"there {'is' if one else 'are'} {first} {manner} {participle} {second}",
        f"{first} {'is' if one else 'are'} {participle} {second} {manner}",
    )[form]


def _said_position(scene: Scene, first: str, second: str, form: int) -> str:
    forward, backward = _SPATIAL_PHRASES[scene.relation]
    one, other = scene.first.count == 1, scene.second.count == 1
    return (
        f"{first} {'is' if one else 'are'} {forward} {second}",
        f"{first} {forward} {second}",
        f"{second} {'is' if other else 'are'} {backward} {first}",
        f"there {'is' if one else 'are'} {first} {forward} {second}",
        f"{second} {backward} {first}",
    )[form]


def _phrase(actor: Actor, rng: np.random.Generator) -> str:
    words = [_COUNT_WORDS[actor.count]]
    if rng.random() >= _OMITTED["size"]:
        words.append(_SIZE_WORDS[actor.size][int(rng.integers(2))])
    if rng.random() >= _OMITTED["colour"]:
        words.append(actor.colour)
    words.append(_NOUNS[actor.kind][int(rng.integers(2))][actor.count > 1])
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    return " ".join(words)


@dataclass(frozen=True)
class Symbol:
    """What a word means: ``role`` says what kind of meaning, ``name`` which."""

    role: Literal["kind", "colour", "size", "count", "action", "spatial", "place", "manner"]
    name: str


def _meanings() -> dict[str, Symbol]:
    words: dict[str, Symbol] = {}
    for kind, nouns in _NOUNS.items():
        words.update({form: Symbol("kind", kind) for pair in nouns for form in pair})
    for action, forms in _VERBS.items():
        words.update({form: Symbol("action", action) for form in forms})
    words.update({word: Symbol("size", size) for size, pair in _SIZE_WORDS.items() for word in pair})
    words.update({word: Symbol("count", str(count)) for count, word in _COUNT_WORDS.items() if count > 1})
    words.update({colour: Symbol("colour", colour) for colour in COLOURS})
    words.update({place: Symbol("place", place) for place in PLACES})
    words.update({manner: Symbol("manner", manner) for manner in MANNERS})
    words.update(
        {
            "left": Symbol("spatial", "left of"),
            "right": Symbol("spatial", "left of"),
            "above": Symbol("spatial", "above"),
            "below": Symbol("spatial", "above"),
            "behind": Symbol("spatial", "behind"),
            "front": Symbol("spatial", "behind"),
        }
    )
    return words


MEANINGS: Final = _meanings()
_PASSIVE: Final = frozenset(forms[3] for forms in _VERBS.values())
_BACKWARD: Final = frozenset({"right", "below", "front"})
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Reading:
    """What a text says. Scrambled or shortened text says less, or something else.

    symbols : meaning of each word that has one, in order.
    actors : kind and what is said of it (colour, size, number), in the order of the text.
    relation : its name with the numbers of the actors that are first and second; None where no two actors are related.
    """

    symbols: tuple[Symbol, ...]
    actors: tuple[tuple[str, tuple[Symbol, ...]], ...]
    relation: tuple[str, int, int] | None


def read_caption(text: str) -> Reading:
    """Read a caption as one who knows the grammar does: qualities belong to the next kind, the voice turns roles."""
    words = _WORD.findall(text.lower())
    symbols, actors, pending = list[Symbol](), list[tuple[str, tuple[Symbol, ...]]](), list[Symbol]()
    verb: tuple[str, int, bool] | None = None
    for i, word in enumerate(words):
        symbol = MEANINGS.get(word)
        if symbol is None:
            continue
        symbols.append(symbol)
        if symbol.role in ("colour", "size", "count"):
            pending.append(symbol)
        elif symbol.role == "kind":
            actors.append((symbol.name, tuple(pending)))
            pending = []
        elif symbol.role in ("action", "spatial") and verb is None:
            turned = word in _BACKWARD or (word in _PASSIVE and "by" in words[i + 1 : i + 2])
            verb = (symbol.name, len(actors), turned)
    relation = None
    if verb is not None and verb[1] == 1 and len(actors) >= 2:
        relation = (verb[0], 1, 0) if verb[2] else (verb[0], 0, 1)
    return Reading(tuple(symbols), tuple(actors), relation)


def scene_symbols(scene: Scene) -> tuple[Symbol, ...]:
    """All that can be said of a scene word by word; a single actor's number is not said."""
    role: Literal["action", "spatial"] = "action" if scene.relation in ACTIONS else "spatial"
    return (
        *_actor_symbols(scene.first),
        Symbol(role, scene.relation),
        *_actor_symbols(scene.second),
        Symbol("place", scene.place),
        Symbol("manner", scene.manner),
    )


def _actor_symbols(actor: Actor) -> Sequence[Symbol]:
    number = [Symbol("count", str(actor.count))] if actor.count > 1 else []
    return (*number, Symbol("size", actor.size), Symbol("colour", actor.colour), Symbol("kind", actor.kind))


def scene_reading(scene: Scene) -> Reading:
    """The reading of a caption that says all."""
    said = tuple((actor.kind, tuple(_actor_symbols(actor))[:-1]) for actor in (scene.first, scene.second))
    return Reading(scene_symbols(scene), said, (scene.relation, 0, 1))


def every_symbol() -> tuple[Symbol, ...]:
    """All meanings, in a fixed order."""
    return tuple(sorted(set(MEANINGS.values()), key=lambda symbol: (symbol.role, symbol.name)))
