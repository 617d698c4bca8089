"""Environment variables that look like settings of this project and are none: most are misspelt."""

import difflib
import re
from collections.abc import Mapping

from sfsc_service.cli.printing import PLACES
from sfsc_service.settings import Settings

__all__ = ["unknown_variables"]

PREFIX = "SFSC_"
OF_THE_DEMO = frozenset({"images"})
"""Settings of `sfsc demo` alone."""
OF_COMMANDS = frozenset({"api_key"})
ELSEWHERE = frozenset(
    {
        *("gid", "gpu_http_port", "gpu_memory", "grafana_port", "http_port", "memory", "milvus_memory", "name"),
        *("prometheus_port", "recipe", "train_data", "train_options", "training_memory", "uid"),
        *("chromium", "datasets", "milvus_python", "milvus_uri", "no_skips", "proxy_port", "publish", "engine"),
    }
)
"""What docker-compose.yml, the Makefile and the tests read."""
OF_KUBERNETES = re.compile(
    r"(\w+_)?service_(host|port(_\w+)?)|(\w+_)?port_\d+_(tcp|udp|sctp)(_(proto|port|addr))?"
)
"""What a Service whose name begins with `sfsc` brings, besides the variable of OF_ADDRESS."""
OF_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that begins with SFSC_ and is read by nothing, with the nearest name there is.

    Values are not shown: one may be a secret.
    """
    known = {*Settings.model_fields, *OF_THE_DEMO, *OF_COMMANDS, *PLACES}
    told = []
    for variable in sorted(one for one in environment if one.upper().startswith(PREFIX)):
        name = variable[len(PREFIX) :].lower()
        linked = name.endswith("port") and OF_ADDRESS.match(environment[variable])
        if name in known | ELSEWHERE or linked or OF_KUBERNETES.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"; is {PREFIX}{near[0].upper()} meant?" if near else "; `sfsc serve --help` lists those that are"
        told.append(f"{variable} is no setting and changes nothing{hint}")
    return told
