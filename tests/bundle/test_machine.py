"""The machine's name, with and without Linux's list of processors, and the CPUs that may be used."""

import math

import pytest

from sfsc_bundle.machine import cpu_quota, processor, usable_cpus


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


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
        (
            "0::/a/b\n",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "400000 100000"},
            2.0,
        ),
        ("0::/not/visible/from/here\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:cpu,cpuacct:/x\n0::/\n",
            {"cpu/x/cpu.cfs_quota_us": "3000", "cpu/x/cpu.cfs_period_us": "1000"},
            3.0,
        ),
        ("4:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("4:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_quota_of_control_groups_of_both_versions(tmp_path, membership, files, quota):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpu_quota(tmp_path / "membership", tmp_path) == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "cpus"), [(math.inf, 4), (8.0, 4), (1.5, 2), (0.1, 1)])
def test_a_quota_is_rounded_up_to_whole_cpus(monkeypatch, quota, cpus):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr("sfsc_bundle.machine.cpu_quota", lambda: quota)
    assert usable_cpus() == cpus
