"""POST /items with an Arrow stream: many vectors in one matrix, each with its own outcome."""

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_bundle.folder import Bundle
from sfsc_service.client import Client, ServiceError
from sfsc_service.client.arrow import ARROW, arrow_body
from sfsc_service.errors import Problem
from sfsc_service.gallery.vectors import unit_rows, unit_vector
from sfsc_service.http.arrow_items import read_arrow
from sfsc_service.settings import Settings
from tests.service.live import Live, running

DIMENSION = 16
MAX_ITEMS = 40


@pytest.fixture(scope="module")
def writable(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service to write to."""
    data = tmp_path_factory.mktemp("writable")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=1, max_items=MAX_ITEMS)) as made:
        yield made


def drawn(count: int, seed: int = 1) -> Any:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stream(options: pa.ipc.IpcWriteOptions | None = None, **columns: pa.Array) -> bytes:
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def matrix(vectors: Any) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def post(live: Live, body: bytes, **params: str) -> httpx.Response:
    params = {"width": "0.5", "space": live.service.manifest.space} | params
    return live.http.post("/items", content=body, params=params, headers={"Content-Type": ARROW})


def test_rows_that_are_refused_leave_no_cycles_to_collect(writable: Live) -> None:
    body = arrow_body(
        [str(n) for n in range(MAX_ITEMS)], np.full((MAX_ITEMS, DIMENSION), np.nan, np.float32), None
    )
    gc.collect()
    gc.disable()
    try:
        answer = post(writable, body).json()
        left = sum(type(found) is Problem for found in gc.get_objects())  # isinstance would wake lazy modules
    finally:
        gc.enable()
    assert (answer["failed"], answer["results"][0]["code"]) == (MAX_ITEMS, "vector_invalid")
    assert left < MAX_ITEMS


def test_rows_are_stored_bit_for_bit_and_replaced_by_a_second_call(writable: Live) -> None:
    vectors, metadata = drawn(5), [{"n": 0}, None, {"ü": [1.5, "x"]}, {}, {"n": 4}]
    ids = [f"row-{n}" for n in range(5)]
    first = post(writable, arrow_body(ids, vectors, metadata)).json()
    assert (first["stored"], first["failed"]) == (5, 0)
    outcome = {"status": 200, "width": "0.5", "reason": "requested", "budget_met": True}
    assert first["results"] == [{"id": name, "created": True, **outcome} for name in ids]
    for name, vector, kept in zip(ids, vectors, metadata, strict=True):
        (item,) = writable.service.gallery._store.get([name])
        assert item is not None
        assert np.array_equal(item.vector, vector)
        assert (item.metadata, item.width, item.reason) == (kept or {}, "0.5", "vector")
    again = post(writable, arrow_body(ids, 3 * vectors[::-1], None)).json()
    assert [result["created"] for result in again["results"]] == [False] * 5
    (item,) = writable.service.gallery._store.get(["row-0"])
    assert item is not None
    assert np.allclose(item.vector, vectors[4], atol=1e-6)


def test_a_bad_row_fails_alone(writable: Live) -> None:
    vectors = drawn(7)
    vectors[1, 3] = np.nan
    vectors[2] = 0
    ids = ["good-0", "nan", "zero", None, "a\nb", "bad-metadata", "good-6"]
    texts = [None, None, None, None, None, "[1]", '{"n": 6}']
    body = stream(id=pa.array(ids), vector=matrix(vectors), metadata=pa.array(texts, pa.string()))
    document = post(writable, body).json()
    codes = [result.get("code") for result in document["results"]]
    assert codes[:3] == [None, "vector_invalid", "vector_invalid"]
    assert codes[3:] == ["invalid_parameter", "id_invalid", "metadata_invalid", None]
    assert [result["id"] for result in document["results"]] == ids
    assert (document["stored"], document["failed"]) == (2, 5)
    found = writable.service.gallery._store.get(["good-0", "nan", "zero", "bad-metadata", "good-6"])
    assert [item is not None for item in found] == [True, False, False, False, True]


def compressed() -> bytes:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    return stream(options, id=pa.array(["x"] * 30), vector=matrix(drawn(30)))


GOOD_IDS = pa.array(["a", "b"])
REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no Arrow": (lambda: b"{}", "invalid_request", "must be an Arrow stream"),
    "empty": (lambda: b"", "invalid_request", "must be an Arrow stream"),
    "cut": (lambda: arrow_body(["a", "b"], drawn(2), None)[:-200], "invalid_request", "must be an Arrow stream"),
    "compressed": (compressed, "invalid_request", "must not be compressed"),
    "a dictionary": (
        lambda: stream(id=GOOD_IDS.dictionary_encode(), vector=matrix(drawn(2))),
        "invalid_parameter",
        "id: must be utf8",
    ),
    "no vector": (lambda: stream(id=GOOD_IDS), "invalid_parameter", "must be id, vector and"),
    "further columns": (
        lambda: stream(id=GOOD_IDS, vector=matrix(drawn(2)), camera=pa.array([1, 2])),
        "invalid_parameter",
        "found id, vector, camera",
    ),
    "doubles": (
        lambda: stream(id=GOOD_IDS, vector=matrix(drawn(2).astype(np.float64))),
        "invalid_parameter",
        "must be fixed_size_list<float32>[16]",
    ),
    "another dimension": (
        lambda: stream(id=GOOD_IDS, vector=matrix(drawn(2)[:, :8])),
        "dimension_mismatch",
        "must have 16 numbers, found 8",
    ),
    "a null": (
        lambda: stream(id=GOOD_IDS, vector=pa.array([None, drawn(1)[0]], pa.list_(pa.float32(), DIMENSION))),
        "vector_invalid",
        "must not be null",
    ),
    "too many": (
        lambda: arrow_body([f"m{n}" for n in range(MAX_ITEMS + 1)], drawn(MAX_ITEMS + 1), None),
        "limit_exceeded",
        "at most 40 in a request",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_matrix_is_refused_before_anything_is_stored(writable: Live, name: str) -> None:
    make, code, said = REFUSED[name]
    before = writable.service.gallery._store.count()
    problem = post(writable, make()).json()
    assert problem["code"] == code, problem
    assert said in problem["detail"]
    assert writable.service.gallery._store.count() == before


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"width": "0.3"}, "unknown_width"),
        ({"space": "nowhere"}, "unknown_space"),
        ({"k": "1"}, "invalid_parameter"),
    ],
)
def test_origin_and_options_are_checked(writable: Live, params: dict[str, str], code: str) -> None:
    assert post(writable, arrow_body(["a"], drawn(1), None), **params).json()["code"] == code


def test_the_client_sends_a_matrix_in_calls(writable: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.client.routes.CALL_VECTORS", 30)
    ids, space = [f"client-{n}" for n in range(70)], writable.service.manifest.space
    with Client(str(writable.http.base_url)) as client:
        outcomes = list(client.put_vectors(ids, drawn(70), width=0.25, space=space, metadata=[{"n": 1}] * 70))
        assert [outcome["id"] for outcome in outcomes] == ids
        assert client.get("client-69")["metadata"] == {"n": 1}
        with pytest.raises(ServiceError, match="width: must be one of"):
            list(client.put_vectors(["x"], drawn(1), width="0.3", space=space))
        with pytest.raises(ValueError, match="with an id and, if given, metadata for each row"):
            list(client.put_vectors(["x"], drawn(2), width="1.0", space=space))


def test_rows_are_brought_to_unit_length_as_single_vectors_are() -> None:
    rows = np.concatenate([drawn(3), 7 * drawn(2, 2), 1e-30 * drawn(1, 3), 1e30 * drawn(1, 4)]).astype(np.float32)
    rows = np.concatenate(
        [rows, np.zeros((1, DIMENSION), np.float32), np.full((1, DIMENSION), np.inf, np.float32)]
    )
    unit, bad = unit_rows(rows)
    assert bad.tolist() == [False] * 7 + [True] * 2
    assert np.array_equal(unit[:3], rows[:3])
    for row in range(3, 7):
        assert np.allclose(unit[row], unit_vector(rows[row].tolist(), DIMENSION), atol=1e-7)


def test_a_stream_must_begin_with_its_schema() -> None:
    whole = arrow_body(["a", "b"], drawn(2), [None, None])
    schema = next(iter(pa.ipc.MessageReader.open_stream(pa.py_buffer(whole)))).serialize()
    assert whole.startswith(schema.to_pybytes())
    with pytest.raises(Problem, match="must begin with a schema, found a record batch"):
        read_arrow(whole[schema.size :], DIMENSION, 10)
    with pytest.raises(Problem, match="must hold record batches, found a schema"):
        read_arrow(schema.to_pybytes() + whole, DIMENSION, 10)


def batches(schema: pa.Schema, count: int, keys: int = 0) -> bytes:
    """A stream of batches without rows, each with custom metadata."""
    empty, sink = pa.RecordBatch.from_pylist([], schema), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for _ in range(count):
            writer.write_batch(empty, custom_metadata={f"k{n}": "" for n in range(keys)})
    return sink.getvalue().to_pybytes()


def schema_of(keys: int = 0, **more: pa.DataType) -> pa.Schema:
    columns = {"id": pa.string(), "vector": pa.list_(pa.float32(), DIMENSION)} | more
    return pa.schema(columns, {f"k{n}": "" for n in range(keys)})


COLUMN_OF_MANY_KEYS = pa.schema([pa.field("id", pa.string(), metadata={f"k{n}": "" for n in range(65)})])


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        (batches(schema_of(), 10), None, ""),
        (batches(schema_of(64), 1, 64), None, ""),
        (batches(schema_of(), 11), "limit_exceeded", "batches: at most 10 in a request, found more"),
        (batches(schema_of(65), 0), "limit_exceeded", "at most 64 keys in custom metadata .*, found 65"),
        (batches(schema_of(), 1, 65), "limit_exceeded", "at most 64 keys in custom metadata .*, found 65"),
        (batches(COLUMN_OF_MANY_KEYS, 0), "limit_exceeded", "at most 64 keys in custom metadata .*, found 65"),
        (batches(schema_of(a=pa.string(), b=pa.string()), 0), "invalid_parameter", "metadata, found 4 columns"),
        (batches(schema_of(**{"x" * 9000: pa.string()}), 0), "limit_exceeded", "metadata: at most 8192 bytes"),
        (
            batches(schema_of(metadata=pa.list_(pa.list_(pa.string()))), 0),
            "invalid_parameter",
            "columns: must be utf8, .* found a type of 1 nested types",
        ),
        (
            batches(schema_of(metadata=pa.struct({"a": pa.string(), "b": pa.string()})), 0),
            "invalid_parameter",
            "columns: must be utf8, .* found a type of 2 nested types",
        ),
    ],
)
def test_what_arrow_would_copy_is_bounded_before_it_is_read(body: bytes, code: str | None, detail: str) -> None:
    """Each entry may refer to the same bytes, which Arrow's library copies for each."""
    if code is None:
        assert not read_arrow(body, DIMENSION, 10).ids
        return
    with pytest.raises(Problem, match=detail) as refused:
        read_arrow(body, DIMENSION, 10)
    assert refused.value.code == code


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_stream_that_ends_early_is_refused_or_ends_between_its_messages(data: st.DataObject) -> None:
    whole = arrow_body(["a", "b"], drawn(2), None)
    length = data.draw(st.integers(0, len(whole) - 9))
    with contextlib.suppress(Problem):
        assert not read_arrow(whole[:length], DIMENSION, 10).ids


@pytest.mark.parametrize("damage", [[(20, 2)], [(29, 3), (599, 2)], [(20, 0), (230, 4)], [(20, 128), (175, 0)]])
def test_a_first_message_that_is_damaged_is_refused(damage: list[tuple[int, int]]) -> None:
    """Some of these ended the process."""
    body = bytearray(arrow_body(["a", "b", "c"], drawn(3), [{"n": 1}, None, {"x": "y"}]))
    for place, value in damage:
        body[place] = value
    with pytest.raises(Problem, match="must"):
        read_arrow(bytes(body), DIMENSION, 10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_stream_is_read_or_refused(damage: list[tuple[int, int]]) -> None:
    body = bytearray(arrow_body(["a", "b", "c"], drawn(3), [{"n": 1}, None, json.loads('{"x": "y"}')]))
    for place, value in damage:
        body[place % len(body)] = value
    try:
        found = read_arrow(bytes(body), DIMENSION, 10)
        assert found.vectors.shape == (len(found.ids), DIMENSION)
    except Problem:
        pass
