"""Where a Milvus is, as the setting says it."""

import pytest

from sfsc_service.store.milvus.address import read_address


@pytest.mark.parametrize(
    ("text", "uri", "database", "token"),
    [
        ("milvus://db:19530/shop", "http://db:19530", "shop", ""),
        ("milvus://127.0.0.1:19530", "http://127.0.0.1:19530", "default", ""),
        ("milvus://[::1]:1/a", "http://[::1]:1", "a", ""),
        ("milvus://me:p%40ss@db:19530/shop", "http://db:19530", "shop", "me:p@ss"),
    ],
)
def test_what_an_address_says(text: str, uri: str, database: str, token: str) -> None:
    address = read_address(text)
    assert (address.uri, address.database, address.token) == (uri, database, token)
    assert "ss" not in f"{address} {address!r}".replace("address", "").replace("Address", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "milvus://",
        "milvus://db",
        "milvus://db:x/a",
        "http://db:1/a",
        "milvus://db:1/a/b",
        "milvus://db:1/a?b",
        "milvus://bob:hunter2℀@db:1/a",
        "milvus://bob:hunter2[@db:1/a",
        "milvus://bob:hunt\ner2@db:1/a",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be milvus://\[USER:PASSWORD@\]HOST:PORT/DATABASE$"):
        read_address(text)
