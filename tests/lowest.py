"""The lower bounds of the serving side's dependencies as a constraints file for pip, for `make test-lowest`.

python tests/lowest.py > constraints.txt
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["lowest"]

EXTRAS = ("cpu", "service", "client", "otel", "parquet")


def lowest(pyproject: str) -> list[str]:
    """`name==bound` for every dependency of the serving side, sorted, from the text of a pyproject.toml."""
    project = tomllib.loads(pyproject)["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in EXTRAS for text in project["optional-dependencies"][extra]),
    ]
    return sorted({_pinned(Requirement(text)) for text in texts})


def _pinned(requirement: Requirement) -> str:
    (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
    return f"{requirement.name}=={bound}"


if __name__ == "__main__":
    print("\n".join(lowest((Path(__file__).parents[1] / "pyproject.toml").read_text())))
