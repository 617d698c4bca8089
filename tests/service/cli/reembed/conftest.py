"""Bundles to move between."""

import pytest

from sfsc_bundle.folder import Bundle
from tests.service.cli.reembed.moving import DIMENSION, WIDER
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("old") / "old", dimension=DIMENSION, space="old-space")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of another space, another dimension and other widths."""
    folder = tmp_path_factory.mktemp("new") / "new"
    return make_tiny_bundle(folder, ("0.5", "1.0"), WIDER, size=24, seed=7, space="new-space")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """At width 0.5 the vectors of `old`, turned far away: what a linear map can undo."""
    folder = tmp_path_factory.mktemp("turned") / "turned"
    return make_tiny_bundle(folder, ("0.5", "1.0"), DIMENSION, space="turned-space", turn=1.0)
