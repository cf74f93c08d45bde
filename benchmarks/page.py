"""Make docs/reference/benchmarks.md from the records in benchmarks/history.

    python benchmarks/page.py

One section a benchmark, the newest record first. A row shows numbers, texts and spreads; what is nested is left to the
record.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
HISTORY = REPOSITORY / "benchmarks" / "history"
PAGE = REPOSITORY / "docs" / "reference" / "benchmarks.md"


def make_page(history: Path = HISTORY) -> str:
    """Return the page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "What was measured, newest first; medians with quartiles in brackets. Each record is a line of",
        "`benchmarks/history/NAME.jsonl`, written by `python benchmarks/NAME.py --history`, from which",
        "`python benchmarks/page.py` makes this page. [What a border costs](costs.md) says what follows from them.",
    ]
    for file in sorted(history.glob("*.jsonl")):
        lines += ["", f"## {file.stem.replace('_', ' ')}", "", _question(file.stem)]
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
        # Of one day the later line is the newer record.
        for _, record in sorted(enumerate(records), key=lambda pair: (pair[1]["date"], pair[0]), reverse=True):
            lines += ["", *_section(record)]
    return "\n".join(lines) + "\n"


def _question(name: str) -> str:
    """The first line of the benchmark's docstring."""
    text = (REPOSITORY / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def _section(record: dict[str, Any]) -> Iterator[str]:
    machine, versions = record["machine"], record["versions"]
    where = f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads, {machine['system']}"
    yield f"### {record['date']}, commit {record['commit'] or 'unknown'}"
    yield ""
    yield f"`{record['command']}`, {where}; {', '.join(f'{name} {version}' for name, version in versions.items())}."
    if "note" in record:
        yield record["note"]
    columns = list(dict.fromkeys(key for row in record["rows"] for key, value in row.items() if _is_shown(value)))
    if columns:
        is_text = [any(isinstance(row.get(column), str) for row in record["rows"]) for column in columns]
        yield ""
        yield f"| {' | '.join(column.replace('_', ' ') for column in columns)} |"
        yield f"|{'|'.join('---' if text else '--:' for text in is_text)}|"
        for row in record["rows"]:
            yield f"| {' | '.join(_cell(row.get(column)) for column in columns)} |"


def _is_shown(value: Any) -> bool:
    return isinstance(value, str | int | float) or (isinstance(value, dict) and "median" in value)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, list) or (isinstance(value, dict) and "median" not in value):
        return ""
    if isinstance(value, dict):
        low, high = value["quartiles"]
        return f"{_number(value['median'])} ({_number(low)}–{_number(high)})"
    return value.replace("|", "\\|") if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    """Three digits, and all of a whole number; powers of ten where zeros would hide them."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:,.0f}"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
