"""The machine's name is there, with and without Linux's list of processors."""

import pytest

from sfsc_bundle.machine import processor


def test_this_machine_has_a_name():
    assert processor()


def test_the_name_is_the_systems(monkeypatch):
    listed = "processor\t: 0\nmodel name\t: A Processor: Fast\n\nprocessor\t: 1\nmodel name\t: Another\n"
    monkeypatch.setattr("pathlib.Path.read_text", lambda _: listed)
    assert processor() == "A Processor: Fast"


@pytest.mark.parametrize("listed", [None, "processor\t: 0\nCPU implementer\t: 0x41\n"])
@pytest.mark.parametrize("asked", ["", "Some Processor"])
def test_where_the_system_does_not_say_python_is_asked(monkeypatch, listed, asked):
    def read(_):
        if listed is None:
            raise FileNotFoundError
        return listed

    monkeypatch.setattr("pathlib.Path.read_text", read)
    monkeypatch.setattr("platform.processor", lambda: asked)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert processor() == (asked or "x86_64")
