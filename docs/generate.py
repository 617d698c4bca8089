"""Generate the marked blocks of README.md and docs/*.md (tables from results and code, the list of files), and the
figures that the gallery page states.

python docs/generate.py            writes them
python docs/generate.py --check    exit code 1 where a block is out of date, or a table is used by no page
"""

import re
import sys
from pathlib import Path

from page_figures import PAGE_FIGURES, page_figures
from performance_tables import PERFORMANCE
from reference import REFERENCE
from scale_tables import SCALE
from tables import TABLES
from tree import tree

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCKS = {"tree": tree} | TABLES | PERFORMANCE | SCALE | REFERENCE
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def main() -> int:
    """Write all blocks; exit code 1 where --check finds one out of date or a table unused."""
    checking = "--check" in sys.argv[1:]
    outdated, used = [], set()
    for path in PAGES:
        text = path.read_text()
        used |= {found[2] for found in _BLOCK.finditer(text)}
        generated = _BLOCK.sub(lambda found: found[1] + content(found[2]) + "\n" + found[3], text)
        if generated != text:
            outdated.append(path.relative_to(ROOT).as_posix())
            if not checking:
                path.write_text(generated)
    if (figures := page_figures()) != (PAGE_FIGURES.read_text() if PAGE_FIGURES.exists() else None):
        outdated.append(PAGE_FIGURES.relative_to(ROOT).as_posix())
        if not checking:
            PAGE_FIGURES.write_text(figures)
    unused = sorted(BLOCKS.keys() - used)
    if checking and outdated:
        print(f"out of date: {', '.join(outdated)}; run python docs/generate.py", file=sys.stderr)
    if checking and unused:
        print(f"used by no page: {', '.join(unused)}; remove them from docs/*.py", file=sys.stderr)
    return 1 if checking and (outdated or unused) else 0


def content(name: str) -> str:
    """One block. Raises ValueError for a name that no table has."""
    if name not in BLOCKS:
        raise ValueError(f"a generated block must be one of {', '.join(sorted(BLOCKS))}; found {name}")
    return BLOCKS[name]()


if __name__ == "__main__":
    sys.exit(main())
