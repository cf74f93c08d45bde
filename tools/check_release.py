"""Check that a tag names the version that the files have, before anything is built from it.

    python tools/check_release.py v0.1.0

Compares the tag with src/borderless/version.py and CITATION.cff, and asks for a section of the version in CHANGELOG.md.
"""

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def find_mistakes(tag: str, root: Path = ROOT) -> list[str]:
    """Return one line for each file that does not agree with `tag`."""
    version = runpy.run_path(str(root / "src" / "borderless" / "version.py"))["__version__"]
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    mistakes = []
    if tag != f"v{version}":
        mistakes.append(f"Expected the tag v{version} but got {tag}; tag another commit, or change version.py.")
    if cited is None or cited[1] != version:
        mistakes.append(f"Expected version {version} in CITATION.cff but got {cited and cited[1]}; write it there.")
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## \[{re.escape(version)}\]", changes, re.MULTILINE):
        mistakes.append(f"Expected a section [{version}] in CHANGELOG.md but got none; write what changed in it.")
    return mistakes


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Expected one tag, such as v0.1.0.")
    sys.exit("\n".join(find_mistakes(sys.argv[1])) or None)
