"""What is on this machine, and what is an address."""

from pathlib import Path

import pytest

from sfsc_bundle.local_path import local_path


@pytest.mark.parametrize("path", ["data", "/data", "./a:b", "c:/data", "a//b", "", Path("s3:/b"), None])
def test_a_path_stays_as_it_is(path: object) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "http://127.0.0.1:8000", "HTTPS://h", "file:///data", "a+b.c://x"]
)
def test_an_address_is_no_path(url: str) -> None:
    with pytest.raises(ValueError, match="must be on this machine, and no URL"):
        local_path(url)
