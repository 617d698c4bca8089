"""The machine's name is there, with and without Linux's list of processors."""

from pathlib import Path

import pytest

from sfsc_bundle.machine import processor


def test_the_name_is_the_systems():
    assert processor()
    assert processor() in Path("/proc/cpuinfo").read_text()


@pytest.mark.parametrize("asked", ["", "Some Processor"])
def test_elsewhere_python_is_asked(monkeypatch, asked):
    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    monkeypatch.setattr("platform.processor", lambda: asked)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert processor() == (asked or "x86_64")
