"""Calls of one collection in Milvus: each ends in bounded time, and fails with an error of the store.

At Session consistency Milvus answers a read once it has seen this process's last upsert; `delete` says what a
deletion needs beyond that. pymilvus repeats a call that could not be sent until its time is over.

Once a call or a probe has not been answered, calls fail at once, so that no threads pile up: until a probe is
answered, or for `_OPEN_S` after the last attempt.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from circuitbreaker import CircuitBreaker
from pymilvus import MilvusClient
from pymilvus.client.types import Status
from pymilvus.exceptions import ErrorCode, MilvusException

from sfsc_service.store.errors import OutcomeUnknownError, StoreError, StoreFailedError
from sfsc_service.store.filters.milvus import one_of
from sfsc_service.store.milvus.parts import Row, parts_by_size, parts_of
from sfsc_service.store.protocol import Float32

__all__ = ["MILVUS_ERRORS", "CollectionClient", "describe_error"]

MILVUS_ERRORS = (MilvusException, grpc.RpcError)
_PROBE_S = 2.0
_OPEN_S = 5.0
_UNANSWERED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, Status.CONNECT_FAILED)
_LOST = (ErrorCode.COLLECTION_NOT_FOUND,)
_NOBODY = 'id == ""'

_log = logging.getLogger(__name__)


class _ProbeError(Exception):
    """What kept Milvus from answering a probe."""


def describe_error(error: BaseException) -> str:
    """What went wrong, in few words and without addresses."""
    code = _code(error)
    if code == Status.CONNECT_FAILED:
        return "no connection"
    return str(code.name) if isinstance(code, grpc.StatusCode) else f"error {getattr(code, 'name', code)}"


class CollectionClient:
    """`timeout_s`: of one call, its repetitions included."""

    def __init__(self, client: MilvusClient, name: str, timeout_s: float) -> None:
        self._client, self._name, self._timeout_s = client, name, timeout_s
        self._breaker = CircuitBreaker(1, _OPEN_S, _is_unanswered, "milvus")

    def probe(self) -> str | None:
        """Ask for nothing; why Milvus cannot answer, if so. Until it can, all other calls fail."""
        try:
            with self._breaker:
                self._ask_for_nothing()
        except _ProbeError as error:
            return _away(error)
        return None

    def count(self, expression: str = "", *, strong: bool = False) -> int:
        """The rows that meet an expression; `strong`: of all that any process has written so far."""
        consistency = {"consistency_level": "Strong"} if strong else {}
        with self._reading():
            (row,) = self._client.query(
                self._name, expression, output_fields=["count(*)"], timeout=self._timeout_s, **consistency
            )
            return int(row["count(*)"])

    def rows_with(self, column: str, values: Sequence[str], fields: Sequence[str]) -> list[Row]:
        """The rows that have one of some values in a column, in any order."""
        with self._reading():
            return [
                row
                for part in parts_of(values)
                for row in self._client.query(
                    self._name, one_of(column, part), output_fields=list(fields), timeout=self._timeout_s
                )
            ]

    def first_rows(self, expression: str, limit: int, fields: Sequence[str]) -> list[Row]:
        """The rows with the smallest ids, ascending, of those that meet an expression."""
        with self._reading():
            # Rows in order are answered at once, whatever is still on its way; this waits for it.
            self._client.query(self._name, _NOBODY, output_fields=["id"], limit=1, timeout=self._timeout_s)
            return list(
                self._client.query(
                    self._name,
                    expression,
                    output_fields=list(fields),
                    limit=limit,
                    timeout=self._timeout_s,
                    iterator="True",
                    reduce_stop_for_best=False,
                )
            )

    def search(
        self, queries: Float32, k: int, expression: str, fields: Sequence[str], parameters: Mapping[str, Any]
    ) -> list[list[Row]]:
        """The best k rows for each query: `entity` has the fields, `distance` the inner product.

        Args:
            parameters: of the index.
        """
        with self._reading():
            return [
                list(hits)
                for hits in self._client.search(
                    self._name,
                    list(queries),
                    filter=expression,
                    limit=k,
                    output_fields=list(fields),
                    search_params={"metric_type": "IP", "params": dict(parameters)},
                    timeout=self._timeout_s,
                )
            ]

    def upsert(self, rows: Sequence[Row]) -> None:
        """Raises OutcomeUnknownError: the rows may be there or not."""
        with self._writing():
            for part in parts_by_size(rows):
                self._client.upsert(self._name, part, timeout=self._timeout_s)

    def delete(self, ids: Sequence[str]) -> None:
        """Raises OutcomeUnknownError: the rows may be gone or not."""
        with self._writing():
            for part in parts_of(ids):
                # An expression, because pymilvus does not escape quotes in `ids`.
                self._client.delete(self._name, filter=one_of("id", part), timeout=self._timeout_s)
            # Milvus 2.3 tells no time of a deletion that later reads could wait for, so it is waited for here.
            self._client.query(
                self._name,
                _NOBODY,
                output_fields=["id"],
                limit=1,
                timeout=self._timeout_s,
                consistency_level="Strong",
            )

    def close(self) -> None:
        self._client.close()

    def _ask_for_nothing(self) -> None:
        try:
            self._client.query(self._name, _NOBODY, output_fields=["id"], limit=1, timeout=_PROBE_S)
        except MILVUS_ERRORS as error:
            if not _is_unanswered(type(error), error):
                with contextlib.suppress(*MILVUS_ERRORS):  # it may have been restarted, and serve nothing yet
                    self._client.load_collection(self._name, timeout=_PROBE_S)
                    self._client.query(self._name, _NOBODY, output_fields=["id"], limit=1, timeout=_PROBE_S)
                    return
            raise _ProbeError from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._refuse_while_open()
        try:
            with self._breaker:
                yield
        except MILVUS_ERRORS as error:
            raise self._failed(error, StoreFailedError, "Milvus could not answer") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._refuse_while_open()
        try:
            with self._breaker:
                yield
        except MILVUS_ERRORS as error:
            rule = "Milvus did not confirm the change, which may have happened; repeat it"
            raise self._failed(error, OutcomeUnknownError, rule) from error

    def _refuse_while_open(self) -> None:
        if self._breaker.opened and (failure := self._breaker.last_failure) is not None:
            raise StoreFailedError(_away(failure))

    def _failed(self, error: Exception, kind: type[StoreError], rule: str) -> StoreError:
        _log.error("a call of Milvus failed with %s: %s", type(error).__name__, error)
        return kind(f"{rule} ({describe_error(error)})")


def _away(error: BaseException) -> str:
    """Why no call is made, as a sentence."""
    if _code(error) in _LOST:
        return "Milvus has no such gallery any more: it may have lost its disk"
    return f"Milvus does not answer ({describe_error(error)})"


def _code(error: BaseException | None) -> Any:
    """The error's code of gRPC or of Milvus; pymilvus gives one of gRPC when it has repeated a call in vain."""
    if isinstance(error, _ProbeError):
        return _code(error.__cause__)
    code = getattr(error, "code", None)
    return code() if callable(code) else code


def _is_unanswered(_kind: type[BaseException], error: BaseException) -> bool:
    return isinstance(error, _ProbeError) or _code(error) in _UNANSWERED
