"""Variables of the environment that nothing reads."""

import re
from pathlib import Path

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.cli.variables import unknown_variables
from tests.service.command import run

ROOT = Path(__file__).parents[3]
READ = re.compile(r"\bSFSC_[A-Z_]*[A-Z]\b")


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("SFSC_SEACH", "SFSC_SEACH is no setting and changes nothing; is SFSC_SEARCH meant?"),
        ("sfsc_ulr", "sfsc_ulr is no setting and changes nothing; is SFSC_URL meant?"),
        ("SFSC_XYZZY", "SFSC_XYZZY is no setting and changes nothing; `sfsc serve --help` lists those that are"),
    ],
)
def test_a_variable_that_nothing_reads_is_told_with_the_nearest_name(variable: str, told: str) -> None:
    assert unknown_variables({variable: "secret", "PATH": "/bin"}) == [told]


def test_what_the_containers_and_the_checks_read_is_known() -> None:
    scripts = (ROOT / "tests" / "system").glob("*.sh")
    files = [
        ROOT / "docker-compose.yml",
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
        *scripts,
    ]
    names = {name for file in files for name in READ.findall(file.read_text())}
    assert {"SFSC_IMAGES", "SFSC_HTTP_PORT", "SFSC_NO_SKIPS"} <= names
    assert unknown_variables(dict.fromkeys([*names, "SFSC_API_KEY", "SFSC_DATASETS", "SFSC_NICE"], "x")) == []


@pytest.mark.parametrize("name", ["SFSC", "SFSC_GPU"])
def test_what_kubernetes_sets_for_a_service_of_this_name_is_known(name: str) -> None:
    address = "tcp://10.96.12.3:8000"
    brought = {f"{name}_SERVICE_HOST", f"{name}_SERVICE_PORT", f"{name}_SERVICE_PORT_HTTP", f"{name}_PORT"} | {
        f"{name}_PORT_8000_TCP{end}" for end in ("", "_PROTO", "_PORT", "_ADDR")
    }
    assert unknown_variables(dict.fromkeys(brought, address)) == []


def test_a_service_and_a_command_tell_of_it_and_go_on(tiny: Bundle, tmp_path: Path) -> None:
    served = run("serve", tiny.folder, "--data", tmp_path, "--host", "256.0.0.1", SFSC_SEACH="ivf")
    assert "WARNING sfsc_service.cli.serve: SFSC_SEACH is no setting and changes nothing" in served.stderr
    assert served.stderr.splitlines()[-1].startswith("sfsc: ")
    shown = run("widths", tiny.folder, SFSC_SEACH="ivf")
    assert shown.returncode == 0
    assert shown.stderr == "sfsc: SFSC_SEACH is no setting and changes nothing; is SFSC_SEARCH meant?\n"
