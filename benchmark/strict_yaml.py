# SPDX-License-Identifier: Apache-2.0
"""Read a YAML file that a stranger wrote, and say on which line it is wrong.

Submissions and cards are untrusted. Only plain mappings, lists and scalars are read (no tags, no objects), size,
nesting and aliases are bounded before anything is built, and a key may stand only once. Scalars follow YAML 1.2: ``no``
and ``yes`` are text, and so is anything longer than 20 characters, so that a commit hash of digits stays a hash.
"""

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import SkipJsonSchema

from voxelboard.benchmark.errors import MissingPrerequisite, UserError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
MAX_NODES = 4000
MAX_ALIASES = 16

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# What PyYAML gives to plain and quoted text, lists and mappings by itself, and the non-specific tag.
_KINDS = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map", "value")
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in _KINDS} | {"!"}

_LOADERS = (yaml.CSafeLoader, yaml.SafeLoader) if yaml.__with_libyaml__ else (yaml.SafeLoader,)

Place = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain values, and the line of each key.

    Attributes
    ----------
    path : the file.
    values : the mapping at its top.
    lines : place (keys and indices from the top) -> 1-based line of the key or list item.
    """

    path: Path
    values: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of the deepest part of ``place`` that stands in the file."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return 1


def read_yaml(path: Path) -> Document:
    """Read one bounded mapping.

    Raises
    ------
    UserError
        with file and line, for a file that is not UTF-8 or not YAML, too large, too deep, with too many aliases, tags,
        a key that is no text or stands twice, or something other than a mapping at the top.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise MissingPrerequisite(f"no file {path}", "check the path") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES // 1024} KiB, which no submission or card needs")
    try:
        text = content.decode("utf-8")
        node = _compose(path, text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise _syntax_error(path, error) from error
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}:1: expected a mapping of keys to values", "start from a file in submissions/")
    builder = _Builder(path)
    return Document(path, builder.mapping(node, ()), builder.lines)


def validate(document: Document, model: type[ModelT]) -> ModelT:
    """Check a document against a schema.

    Raises
    ------
    UserError
        with one line per fault: file, line, key, what was got, what is allowed and the nearest name.
    """
    try:
        return model.model_validate(document.values)
    except ValidationError as error:
        faults = sorted((document.line(_place(fault)), _explain(fault, model)) for fault in error.errors())
        lines = [f"{document.path}:{line}: {text}" for line, text in dict.fromkeys(faults)]
        raise UserError("\n".join(lines)) from error


def _compose(path: Path, text: str) -> yaml.Node | None:
    """By libyaml where PyYAML has it, ten times as fast; what it refuses is explained by PyYAML, in words that stay the same."""
    for loader in _LOADERS:
        try:
            _check_bounds(path, text, loader)
            return yaml.compose(text, Loader=loader)
        except yaml.YAMLError:
            if loader is _LOADERS[-1]:
                raise
    return None  # cannot happen: there is a loader


def _check_bounds(path: Path, text: str, loader: "type[yaml.SafeLoader | yaml.CSafeLoader]") -> None:
    # The event stream is read without recursion, so a bomb is seen before anything nested is built.
    depth = aliases = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=loader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        for count, limit, what in (
            (depth, MAX_DEPTH, "nested deeper than"),
            (nodes, MAX_NODES, "more entries than"),
            (aliases, MAX_ALIASES, "more aliases than"),
        ):
            if count > limit:
                raise UserError(f"{path}:{line}: {what} {limit}")


def _syntax_error(path: Path, error: yaml.YAMLError) -> UserError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return UserError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}")


class _Builder:
    """Turns nodes into plain values; counts them, because an alias may stand for many."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Place, int] = {}
        self.n_nodes = 0

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        """A mapping as a dict, its keys text and each there once."""
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            line = key_node.start_mark.line + 1
            if key in values:
                first = self.lines[*place, key]
                raise UserError(f"{self.path}:{line}: key {key!r} stands twice, first on line {first}")
            self.lines[*place, key] = line
            values[key] = self.value(value_node, (*place, key))
        return values

    def value(self, node: yaml.Node, place: Place) -> Any:
        """A node as plain data; tags, depth and size beyond what is allowed are refused with their line."""
        self.n_nodes += 1
        line = node.start_mark.line + 1
        if self.n_nodes > MAX_NODES or len(place) > MAX_DEPTH:
            raise UserError(f"{self.path}:{line}: aliases grow to more than {MAX_NODES} entries or {MAX_DEPTH} levels")
        if node.tag not in _TAGS:
            raise UserError(f"{self.path}:{line}: tag {node.tag!r} is not allowed: write plain text, numbers or lists")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.lines[*place, index] = item.start_mark.line + 1
                items.append(self.value(item, (*place, index)))
            return items
        plain = isinstance(node, yaml.ScalarNode) and not node.style  # None or, by libyaml, empty
        return _scalar(node.value) if plain else node.value

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.value == "<<":
            raise UserError(f"{self.path}:{node.start_mark.line + 1}: a key must be plain text, and `<<` is not read")
        return str(node.value)


def _scalar(text: str) -> Any:
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 20:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _place(fault: Mapping[str, Any]) -> Place:
    return tuple(part for part in fault["loc"] if not (isinstance(part, str) and part.endswith("]")))


def _explain(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    place = _place(fault)
    name = ".".join(str(part) for part in place) or "the file"
    kind, got = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        allowed = list(_section(model, place[:-1]))
        return f"unknown key {name}; allowed: {', '.join(allowed)}.{_nearest(str(place[-1]), allowed)}"
    if kind == "missing":
        return f"{name} is missing"
    if kind == "literal_error":
        options = _options(model, place)
        near = _nearest(str(got), options)
        return f"{name}: got {_short(got)}; allowed: {', '.join(options) or fault['ctx']['expected']}.{near}"
    if kind == "value_error":
        return f"{name}: {fault['ctx']['error']}"
    return f"{name}: got {_short(got)}; {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _nearest(got: str, allowed: list[str]) -> str:
    near = get_close_matches(got, allowed, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _section(model: type[BaseModel], place: Place) -> list[str]:
    found = _annotation(model, place)
    return list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else []


def _options(model: type[BaseModel], place: Place) -> list[str]:
    return [str(option) for option in _literals(_annotation(model, place))]


def _annotation(model: Any, place: Place) -> Any:
    """The annotation of the field at ``place``; for an optional section, the section."""
    for part in place:
        if typing.get_origin(model) in (dict, tuple, list):
            model = typing.get_args(model)[1 if typing.get_origin(model) is dict else 0]
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return None
        field = model.model_fields.get(str(part))
        model = field.annotation if field else None
        sections = [arm for arm in _arms(model) if isinstance(arm, type) and issubclass(arm, BaseModel)]
        model = sections[0] if sections else model
    return model


def _arms(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (UnionType, typing.Union):
        return list(typing.get_args(annotation))
    return [annotation]


def _literals(annotation: Any) -> list[Any]:
    if any(type(note).__name__ == SkipJsonSchema.__name__ for note in getattr(annotation, "__metadata__", ())):
        return []  # not for files
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [option for inner in typing.get_args(annotation) for option in _literals(inner)]
