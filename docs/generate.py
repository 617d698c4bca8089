"""Make the generated blocks of README.md and docs/*.md anew: tables from results, the tree from the files.

python docs/generate.py            writes them
python docs/generate.py --check    fails where one is out of date
"""

import re
import sys
from pathlib import Path

from performance_tables import PERFORMANCE
from reference import REFERENCE
from tables import TABLES
from tree import tree

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def main() -> int:
    """Write all blocks; exit code 1 where --check finds one out of date."""
    outdated = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        made = _BLOCK.sub(lambda found: found[1] + content(found[2]) + "\n" + found[3], text)
        if made != text and "--check" in sys.argv[1:]:
            outdated.append(path.relative_to(ROOT).as_posix())
        elif made != text:
            path.write_text(made)
    if outdated:
        print(f"out of date: {', '.join(outdated)}; run python docs/generate.py", file=sys.stderr)
    return 1 if outdated else 0


def content(name: str) -> str:
    """One block."""
    return f"```\n{tree()}\n```" if name == "tree" else (TABLES | PERFORMANCE | REFERENCE)[name]()


if __name__ == "__main__":
    sys.exit(main())
