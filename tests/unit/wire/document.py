"""PROTOCOL.md as data: its tables, by what they are about, for the tests and for the dump of its example session.

What is read here is what a reader of the document sees; nothing is taken from the code.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

PATH = Path(__file__).parents[3] / "wire" / "PROTOCOL.md"
VECTORS = PATH.parent / "vectors"

Row = dict[str, str]


class Field(NamedTuple):
    """A field: its name, the types that it may have, and the ranges of its number or size."""

    name: str
    types: frozenset[str]
    ranges: tuple[tuple[int, int], ...]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a decoded value, or None."""
        kind = _KINDS[type(value)]
        if kind not in self.types:
            return f"{self.name}: {value!r} is {kind}, not {' or '.join(sorted(self.types))}"
        if kind in ("nil", "bool") or not self.ranges:
            return None
        measure = value if kind == "int" else len(value.encode() if kind == "text" else value)
        if any(low <= measure <= high for low, high in self.ranges):
            return None
        return f"{self.name}: {measure} is not within {self.ranges}"


_KINDS = {
    int: "int",
    str: "text",
    bytes: "bin",
    bool: "bool",
    type(None): "nil",
    tuple: "array",
    dict: "map",
}


class Answer(NamedTuple):
    """One row of a table of answers: which status, with which finals, and the names of what follows."""

    status: str
    finals: frozenset[bool]
    names: tuple[str, ...]


class Request(NamedTuple):
    """One request, as its section has it."""

    name: str
    code: int
    fields: tuple[Field, ...]
    """Those from element 2 on."""
    answers: tuple[Answer, ...]


class Document(NamedTuple):
    """Everything that the tables say."""

    statuses: dict[int, Answer]
    requests: dict[int, Request]
    elements: dict[int, int]
    """How many elements a request has, by its code."""
    any_answers: tuple[Answer, ...]
    items: tuple[Answer, ...]
    info: tuple[Field, ...]
    member: tuple[Field, ...]
    events: dict[int, Answer]
    fields: dict[str, Field]
    limits: dict[str, int]
    goodbyes: frozenset[str]
    session: tuple[tuple[str, bytes], ...]
    """The example session: (direction, bytes) of each frame."""


def number(text: str) -> int:
    """Read a number as the document writes it: 4,096 or 2^53-1."""
    return (1 << 53) - 1 if text == "2^53-1" else int(text.replace(",", ""))


_NUMBER = r"(?:2\^53-1|\d[\d,]*\d|\d)"


def ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Read "0, 100 to 86,400,000", "1 to 512 bytes" or "16 bytes"."""
    found = []
    for part in re.split(r", ", text):
        match = re.match(rf"({_NUMBER})(?: to ({_NUMBER}))?", part)
        if match:
            found.append((number(match[1]), number(match[2] or match[1])))
    return tuple(found)


def read(text: str | None = None) -> Document:
    """Read the document."""
    text = PATH.read_text() if text is None else text
    tables = _tables(text)
    fields = {f.name: f for f in map(_field, _one(tables, "Fields"))}
    requests = {
        request.code: request
        for heading in tables
        if (request := _request(heading, tables[heading])) is not None
    }
    return Document(
        statuses={
            int(r["code"]): Answer(_name(r["status"]), _finals(r["final"]), ())
            for r in tables["Statuses"][0]
        },
        requests=requests,
        elements={int(r["code"]): int(r["elements"]) for r in tables["Requests"][0]},
        any_answers=tuple(map(_answer, tables["Statuses"][1])),
        items=tuple(
            Answer(_name(r["item"]), frozenset(), tuple(_names(r["elements"])))
            for r in tables["RENEW (8)"][2]
        ),
        info=tuple(map(_field, tables["GET (12)"][2])),
        member=tuple(map(_field, tables["MEMBERS (16)"][1])),
        events={
            int(r["code"]): Answer(
                _name(r["event"]), frozenset(), tuple(_names(r["elements from 2 on"]))
            )
            for r in _one(tables, "Events")
        },
        fields=fields,
        limits={_name(r["limit"]): number(r["value"]) for r in _one(tables, "Limits")},
        goodbyes=frozenset(_name(r["GOODBYE code"]) for r in _one(tables, "A connection")),
        session=tuple(session(text)),
    )


def _one(tables: dict[str, list[list[Row]]], heading: str) -> list[Row]:
    (table,) = tables[heading]
    return table


def _tables(text: str) -> dict[str, list[list[Row]]]:
    """Return the tables under each heading, each as rows by the names of their columns."""
    tables: dict[str, list[list[Row]]] = {}
    heading, columns = "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        cells = [c.strip() for c in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            columns = None
        elif columns is None:
            columns = cells
            tables.setdefault(heading, []).append([])
        elif not set(line) <= set("|-: "):
            if len(cells) != len(columns):
                raise ValueError(f"a row of {len(cells)} cells under {columns}: {line}")
            tables[heading][-1].append(dict(zip(columns, cells, strict=True)))
    return tables


def _name(cell: str) -> str:
    return cell.strip("`")


def _names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def _finals(cell: str) -> frozenset[bool]:
    return frozenset(word == "true" for word in cell.split(" or "))


def _field(row: Row) -> Field:
    return Field(_name(row["field"]), frozenset(row["type"].split(" or ")), ranges(row["range"]))


def _answer(row: Row) -> Answer:
    status = row.get("answer") or row["status"]
    return Answer(_name(status), _finals(row["final"]), tuple(_names(row["elements from 3 on"])))


def _request(heading: str, tables: list[list[Row]]) -> Request | None:
    match = re.fullmatch(r"([A-Z_]+) \((\d+)\)", heading)
    if match is None:
        return None
    fields = tables[0] if "#" in tables[0][0] else []
    answers = next(table for table in tables if "answer" in table[0])
    return Request(
        match[1], int(match[2]), tuple(map(_field, fields)), tuple(map(_answer, answers))
    )


# the example session

SESSION_HEADING = "\n## A session in bytes\n"
_FRAME = re.compile(r"^([<>]) ", re.MULTILINE)
_HEX = re.compile(r"^((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:$|  )")


def session(text: str) -> list[tuple[str, bytes]]:
    """Return the frames of the example session: lines of hex below a line with their direction."""
    section = text.partition(SESSION_HEADING)[2].partition("\n## ")[0]
    frames: list[tuple[str, bytes]] = []
    for line in section.splitlines():
        if _FRAME.match(line):
            frames.append((line[0], b""))
        elif match := _HEX.match(line):
            direction, data = frames[-1]
            frames[-1] = (direction, data + bytes.fromhex(match[1]))
    return frames
