"""Print every figure of benchmarks/results as one table: asked against obtained."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table


def main() -> None:
    """Read all results and print them; missed goals stand out."""
    table = Table("benchmark", "figure", "obtained", "asked", "met", title="Figures, asked against obtained")
    for path in sorted((Path(__file__).parent / "results").glob("*.json")):
        for figure in json.loads(path.read_text())["figures"]:
            met = {True: "yes", False: "[red]no[/red]", None: "–"}[figure["met"]]
            value = f"{figure['value']:.4g} {figure['unit']}"
            table.add_row(path.stem, figure["name"], value, figure["goal"] or "–", met)
    Console().print(table)


if __name__ == "__main__":
    main()
