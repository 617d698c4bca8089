"""What was found damaged and is therefore not served, until it is replaced or deleted."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

__all__ = ["Damage"]

_NAMED = 10

_log = logging.getLogger(__name__)


class Damage:
    """Damaged versions of items and their ids; methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ids: dict[int, str] = {}
        self._database: list[str] = []

    def add(self, ids: Mapping[int, str], what: str) -> None:
        """Note damaged versions with their ids; new ones are named in the log. `what`: such as "vectors"."""
        with self._lock:
            fresh = {sequence: ids[sequence] for sequence in ids if sequence not in self._ids}
            self._ids.update(fresh)
        if fresh:
            _log.error("%s; %s", _named(fresh.values(), what), _ADVICE)

    def add_database(self, errors: Sequence[str]) -> None:
        """Note what is wrong with the database as a whole."""
        with self._lock:
            self._database = list(errors)
        _log.error("the database is damaged: %s", "; ".join(errors))

    def forget(self, sequences: Iterable[int]) -> None:
        """These versions were removed."""
        with self._lock:
            for sequence in sequences:
                self._ids.pop(sequence, None)

    @property
    def sequences(self) -> list[int]:
        """Of all damaged versions."""
        with self._lock:
            return sorted(self._ids)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._ids

    @property
    def sentences(self) -> list[str]:
        """For people; empty where nothing is damaged."""
        with self._lock:
            ids, database = list(self._ids.values()), self._database
        found = [f"the database is damaged: {'; '.join(database)}"] if database else []
        return [*found, f"{_named(ids, 'items')}; {_ADVICE}"] if ids else found


_ADVICE = "they are not served; upsert them again or delete them"


def _named(ids: Iterable[str], what: str) -> str:
    names = sorted(ids)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"damaged {what}: {', '.join(map(repr, names[:_NAMED]))}{more}"
