"""Read YAML strictly: every value keeps its place in the file, and nothing is guessed.

The tree is built from PyYAML's events, so no object is ever constructed from a file. Anchors, aliases, merge keys,
tags, directives, several documents and duplicate keys are refused. Each scalar keeps its type of YAML 1.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tasks.engine import plain_file
from tasks.engine.config.nodes import HIDDEN, Mapping, Node, Place, Scalar, Sequence
from tasks.engine.errors import UsageError

SIZE_LIMIT = 1024 * 1024
DEPTH_LIMIT = 16
VALUE_LIMIT = 20_000
KEY_LIMIT = 100

# Other YAML readers take these for booleans or numbers; PyYAML takes them for text.
_DISPUTED = re.compile(r"(?P<bool>[yYnN])|(?P<float>[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+)|(?P<int>0o[0-7]+)")

_DIRECTIVE = re.compile("^%", re.MULTILINE)
_IMPOSSIBLE = re.compile(r"\\U(?!0010|000)[0-9A-Fa-f]{8}")
_RESOLVER = yaml.resolver.Resolver()


class Document(NamedTuple):
    """A file that was read whole: its bytes and its tree."""

    path: Path
    data: bytes
    root: Node


def read(path: Path, *, missing: str) -> Document:
    """Read and parse a file. missing: advice if there is no such file. Raises UsageError with the place of a fault."""
    file = display_path(path)
    try:
        with plain_file.opened(path) as stream:
            data = stream.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise UsageError(f"{file} is missing", where=file, next=missing) from None
    except plain_file.NotPlain:
        raise UsageError(f"{file} is not a regular file", where=file, next=missing) from None
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise UsageError(f"{file} cannot be read: {reason}", where=file, next="make it readable") from None
    return Document(path, data, parse(data, file))


def display_path(path: Path) -> str:
    """Return the path as messages show it: relative to the current directory if it lies below that."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def parse(data: bytes, file: str) -> Node:
    """Parse these bytes; an empty document is a null scalar. Raises UsageError with the place of the fault."""
    text = _decode(data, file)
    try:
        return _Builder(text, file).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1, "") if mark else Place(file, 1, 1, "")
        problem = " ".join(part for part in (error.context, error.problem) if part)
        fix = "indent with spaces, not tabs" if "\\t" in problem else "correct the line; quote a text with : # { ["
        raise UsageError(f"not valid YAML: {problem}", where=str(place), next=fix) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # An impossible escape such as "\UFFFFFFFF" reaches chr() inside PyYAML, whose error then has no place.
        escape = _IMPOSSIBLE.search(text)
        where = _spot(text[: escape.start()], file) if escape else file
        raise UsageError("an escape means a character that does not exist", where=where, next="remove it") from None


def _decode(data: bytes, file: str) -> str:
    """Decode the bytes and normalize line ends; refuse characters that an editor does not show."""
    if len(data) > SIZE_LIMIT:
        raise UsageError(f"{file} is too large", where=file, next="shorten it: the limit is 1 MiB")
    if data.startswith(b"\xef\xbb\xbf"):
        fix = "save it as UTF-8 without a byte order mark"
        raise UsageError(f"{file} starts with a byte order mark", where=f"{file}:1:1", next=fix)
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        where = _spot(data[: error.start].decode("utf-8"), file)
        byte = data[error.start]
        raise UsageError(f"byte 0x{byte:02x} is not UTF-8", where=where, next=f"save {file} as UTF-8") from None
    if hidden := HIDDEN.search(text):
        raise UsageError(
            f"a hidden character stands here: U+{ord(hidden[0]):04X}",
            where=_spot(text[: hidden.start()], file),
            next="delete it",
        )
    # Refused before PyYAML sees them: a document may have any number of them, and each takes time.
    if directive := _DIRECTIVE.search(text):
        where = _spot(text[: directive.start()], file)
        raise UsageError("a YAML directive (%) is not used here", where=where, next="delete the line; quote a text")
    return text


def _spot(before: str, file: str) -> str:
    return f"{file}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


class _Builder:
    """Build a tree from one stream of events."""

    def __init__(self, text: str, file: str) -> None:
        self.events: Iterator[yaml.Event] = yaml.parse(text, yaml.SafeLoader)
        self.file = file
        self.values = 0

    def document(self) -> Node:
        """Return the only document of the stream."""
        next(self.events)
        start = next(self.events)
        if not isinstance(start, yaml.DocumentStartEvent):
            return Scalar(Place(self.file, 1, 1, ""), "", "null")
        root = self._node(next(self.events), "", 1)
        next(self.events)
        end = next(self.events)
        if not isinstance(end, yaml.StreamEndEvent):
            raise self._refuse(end, "", "a second document starts here", "keep one document: delete this `---`")
        return root

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        self._plain(event, path)
        if depth > DEPTH_LIMIT:
            raise self._refuse(event, path, f"nested deeper than {DEPTH_LIMIT} levels", "flatten it")
        self.values += 1
        if self.values > VALUE_LIMIT:
            fix = "split it: HOSTS picks another inventory"
            raise self._refuse(event, path, f"the file has more than {VALUE_LIMIT} values", fix)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, path, depth)
        return self._mapping(event, path, depth)

    def _plain(self, event: yaml.Event, path: str) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._refuse(event, path, "anchors (&) and aliases (*) are not used here", "write the value out")
        if getattr(event, "tag", None):
            raise self._refuse(event, path, "tags (!) are not used here", "delete the tag; quote a text")

    def _scalar(self, event: yaml.ScalarEvent, path: str) -> Scalar:
        kind = "str"
        if event.implicit[0]:
            tag = str(_RESOLVER.resolve(yaml.ScalarNode, event.value, (True, False)))  # type: ignore[no-untyped-call]
            kind = tag.rpartition(":")[2]
            if kind == "str" and (disputed := _DISPUTED.fullmatch(event.value)):
                kind = str(disputed.lastgroup)
        return Scalar(self._place(event, path), event.value, kind)

    def _sequence(self, start: yaml.Event, path: str, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Sequence(self._place(start, path), tuple(items))

    def _mapping(self, start: yaml.Event, path: str, depth: int) -> Mapping:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, path)
            below = f"{path}.{key}" if path else key
            if key in keys:
                fix = f"keep one of the two; the first stands on line {keys[key].line}"
                raise self._refuse(event, below, f"{json.dumps(key)} stands here twice", fix)
            keys[key] = self._place(event, below)
            entries[key] = self._node(next(self.events), below, depth + 1)
        return Mapping(self._place(start, path), entries, keys)

    def _key(self, event: yaml.Event, path: str) -> str:
        self._plain(event, path)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(event, path, "a key is one word, not a list or a mapping", "quote it, if it is text")
        key = self._scalar(event, path)
        if key.kind == "merge":
            raise self._refuse(event, path, "merge keys (<<) are not used here", "write the keys out")
        if key.kind != "str":
            message = f"YAML does not read the key {key.text or 'here'} as text"
            raise self._refuse(event, path, message, f"quote it: {json.dumps(key.text)}:")
        if len(key.text) > KEY_LIMIT or HIDDEN.search(key.text) or not {"\t", "\n"}.isdisjoint(key.text):
            message = "a key is one short line without control characters"
            raise self._refuse(event, path, message, "rename it")
        return key.text

    def _place(self, event: yaml.Event, path: str) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1, path) if mark else Place(self.file, 1, 1, path)

    def _refuse(self, event: yaml.Event, path: str, message: str, fix: str) -> UsageError:
        return UsageError(message, where=str(self._place(event, path)), next=fix)
