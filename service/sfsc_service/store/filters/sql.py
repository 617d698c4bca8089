"""The SQL that operators are made of: conditions on the columns `id`, `width` and `metadata` of a table of items.

The dialect is SQLite's, whose `->` gives the JSON text that stands at a path of the metadata.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Condition", "Scalar", "all_of", "column_equals", "metadata_equals"]

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL expression and the values of its parameters, in order."""

    sql: str
    values: tuple[str, ...]


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Holds where every one of `conditions` (one at least) holds."""
    parts = list(conditions)
    values = tuple(value for part in parts for value in part.values)
    return Condition(" AND ".join(f"({part.sql})" for part in parts), values)


def column_equals(column: str, value: str) -> Condition:
    """Holds where a column of text has this value; `column` is written into the SQL as it is."""
    return Condition(f"{column} = ?", (value,))


def metadata_equals(path: Sequence[str], value: Scalar) -> Condition:
    """Holds where the metadata have `value` at `path`, by JSON's idea of equality: true is not 1, but 1 is 1.0."""
    texts = _json_texts(value)
    json_path = "$" + "".join(f'."{name}"' for name in path)
    return Condition(f"(metadata -> ?) IN ({', '.join('?' * len(texts))})", (json_path, *texts))


def _json_texts(value: Scalar) -> list[str]:
    """All texts under which the stored metadata may hold this value.

    Texts are compared instead of numbers because not every version of SQLite reads decimal numbers exactly.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [json.dumps(value, ensure_ascii=False)]
    if value == 0:
        return ["0", "0.0", "-0.0"]
    equals = (int(value), float(value)) if value == int(value) else (value,)
    return [json.dumps(number) for number in equals if number == value]
