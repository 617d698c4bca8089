"""Durable bulk insertion of vectors over HTTP in calls of 1,000: base64 lines and a matrix, beside sqlite3.

    python benchmarks/bulk_http.py [--items 20000]

Bodies are made before the clock runs. sqlite3's executemany inserts the same rows in transactions of 1,000.
"""

import argparse
import base64
import json
import os
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from live_service import launched
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_service.client.arrow import ARROW, arrow_body
from store import CALL, METADATA, SEED, drawn, sqlite_rate

BUNDLE = Path(__file__).parents[1] / "models" / "demo"
WIDTH = "1.0"
ROUNDS = 3


def line_bodies(count: int, prefix: str) -> list[bytes]:
    """NDJSON, the vectors in base64."""
    bodies = []
    for first in range(0, count, CALL):
        lines = (
            {
                "id": f"{prefix}-{first + i:08d}",
                "vector": base64.b64encode(vector.tobytes()).decode(),
                "metadata": METADATA,
            }
            for i, vector in enumerate(drawn(CALL, first))
        )
        bodies.append("\n".join(map(json.dumps, lines)).encode())
    return bodies


def arrow_bodies(count: int, prefix: str) -> list[bytes]:
    """Arrow streams."""
    return [
        arrow_body([f"{prefix}-{first + i:08d}" for i in range(CALL)], drawn(CALL, first), [METADATA] * CALL)
        for first in range(0, count, CALL)
    ]


def rate(client: httpx.Client, bodies: list[bytes], media_type: str, space: str) -> float:
    """Items a second, one call after the other."""
    began = time.perf_counter()
    for body in bodies:
        answer = client.post(
            "/items", content=body, params={"width": WIDTH, "space": space}, headers={"Content-Type": media_type}
        )
        assert answer.json()["stored"] == CALL, answer.text[:300]
    return CALL * len(bodies) / (time.perf_counter() - began)


def main() -> None:
    """Serve, insert in both forms and into bare sqlite3 in turns, print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    count = parser.parse_args().items
    space = open_bundle(BUNDLE).manifest.space
    rates: dict[str, list[float]] = {"sqlite3": [], "base64": [], "binary": []}
    for number in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory() as folder,
            launched(BUNDLE, Path(folder), SFSC_LOG_LEVEL="warning") as (client, _),
        ):
            rates["sqlite3"].append(sqlite_rate(Path(folder), count))
            lines = line_bodies(count, f"lines-{number}")
            rates["base64"].append(rate(client, lines, "application/x-ndjson", space))
            matrices = arrow_bodies(count, f"matrix-{number}")
            rates["binary"].append(rate(client, matrices, ARROW, space))
    median = {name: float(np.median(found)) for name, found in rates.items()}
    figures = [
        Figure("base64 lines ÷ sqlite3 executemany", median["base64"] / median["sqlite3"], "", ">= 0.2"),
        Figure("binary matrix ÷ sqlite3 executemany", median["binary"] / median["sqlite3"], "", ">= 0.4"),
        Figure("binary matrix", median["binary"], "items/s"),
        Figure("base64 lines", median["base64"], "items/s"),
    ]
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    write_result(
        "bulk_http",
        figures,
        {"items": count, "rates": rates, "load average at the end": os.getloadavg()[0]},
        seed=SEED,
    )


if __name__ == "__main__":
    main()
