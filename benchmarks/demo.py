"""The demo as a visitor sees it: seconds from `git clone` to the first hit, size and accuracy of the bundle.

python benchmarks/demo.py              # three clones, without pip's cache
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import httpx

from live_service import free_port
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle

ROOT = Path(__file__).parents[1]
LIMIT_S = 600


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = [first_hit() for _ in range(parser.parse_args().runs)]
    bundle = open_bundle(ROOT / "models" / "demo")
    manifest = bundle.manifest
    graphs = sum(bundle.graph(width).stat().st_size for width in manifest.widths) / 1e6
    images = sorted((bundle.folder / "gallery").glob("*.jpg"))
    rank1 = manifest.quality.rank1
    figures = [
        Figure("git clone to the first hit, median", median(run["first hit"] for run in runs), "s", "<= 120"),
        Figure("of it, until the service is ready", median(run["ready"] for run in runs), "s"),
        Figure("ONNX over the four widths", graphs, "MB", "<= 12"),
        Figure("gallery images", len(images), "", ">= 400"),
        Figure("gallery, images together", sum(p.stat().st_size for p in images) / 1e6, "MB", "<= 4"),
        Figure("rank-1 at width 1.0, unseen identities", rank1[-1][-1], "points", ">= 90"),
        Figure("rank-1 at width 0.25, unseen identities", rank1[0][0], "points"),
    ]
    data = {"runs": runs, "quality": manifest.quality.model_dump(mode="json")}
    print("written to", write_result("demo", figures, data, seed=manifest.provenance.seed))


def first_hit() -> dict[str, float]:
    """Clone, `make demo`, and ask until a search finds something; seconds since the clone began."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "sfsc"
        began = time.monotonic()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        port = free_port()
        environment = os.environ | {"SFSC_PORT": str(port), "PIP_NO_CACHE_DIR": "1"}
        server = subprocess.Popen(["make", "demo"], cwd=clone, env=environment, start_new_session=True)
        try:
            ready = wait(server, lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200)
            image = next(iter(sorted((clone / "models/demo/gallery/queries").glob("*.jpg")))).read_bytes()
            hit = wait(server, lambda: bool(search(port, image)))
            return {"ready": round(ready - began, 1), "first hit": round(hit - began, 1)}
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def search(port: int, image: bytes) -> list[object]:
    """The hits of one image at width 0.25."""
    answer = httpx.post(
        f"http://127.0.0.1:{port}/search?width=0.25",
        content=image,
        headers={"content-type": "image/jpeg"},
    )
    hits: list[object] = answer.raise_for_status().json()["hits"]
    return hits


def wait(server: "subprocess.Popen[bytes]", condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float:
    """When the condition first held."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"make demo ended with code {server.returncode}")
        try:
            if condition():
                return time.monotonic()
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    sys.exit(f"nothing came within {limit_s:g} s")


if __name__ == "__main__":
    main()
