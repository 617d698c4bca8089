"""Pin the images that this project builds upon and runs to the digests that their registry answers with.

python docker/pin.py
An image whose registry does not answer stays as it is, and the exit code is 1.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("docker/service.Dockerfile", "docker/training.Dockerfile", "docker-compose.yml")
# `ARG BASE=name:tag` or `image: name:tag`, with or without a digest; images named sfsc-… are built here.
REFERENCE = re.compile(
    r"^(ARG BASE=| +image: )(?!sfsc-)([\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?$", re.MULTILINE
)


def main() -> int:
    """Pin every image; exit code 1 where one could not be."""
    texts = {name: (ROOT / name).read_text() for name in FILES}
    images = sorted({found[2] for text in texts.values() for found in REFERENCE.finditer(text)})
    digests = {image: digest for image in images if (digest := digest_of(image))}
    for name, text in texts.items():
        (ROOT / name).write_text(REFERENCE.sub(lambda found: pinned(found, digests), text))
    for image, digest in digests.items():
        print(f"{image}: pinned to {digest}")
    return int(len(digests) < len(images))


def digest_of(image: str) -> str | None:
    """The digest that the registry gives for an image; None, after a sentence, where none answers."""
    try:
        done = subprocess.run(["docker", "pull", image], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        print(f"{image}: left as it is, because there is no command docker", file=sys.stderr)
        return None
    found = re.search(r"^Digest: (sha256:[0-9a-f]{64})$", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        said = (done.stderr.strip() or done.stdout.strip() or "no digest").splitlines()[-1]
        print(f"{image}: left as it is, because no registry answers: {said}", file=sys.stderr)
        return None
    return found[1]


def pinned(found: re.Match[str], digests: dict[str, str]) -> str:
    """A reference with its digest, or as it was."""
    image = found[2]
    return f"{found[1]}{image}@{digests[image]}" if image in digests else found[0]


if __name__ == "__main__":
    sys.exit(main())
