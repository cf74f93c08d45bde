"""Write an audit as plain numbers and texts: what `audit.json` holds.

The schema has a number, `SCHEMA`; it grows when a field changes its meaning or goes away, not when one is added.
Comparing two audits, or following one over time, needs no PyTorch.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from borderless.auditing.parts import discover
from borderless.auditing.result import Measurements
from borderless.auditing.verdict import headline, is_exploiting, judge
from borderless.errors import DataError
from borderless.report.provenance import versions
from borderless.runtime.files import printable

SCHEMA = 3
FILE = "audit.json"
# Levels of findings as schema 1 called them, and fields as schemas 1 and 2 did.
_OLD_LEVELS = {"bad": "fail", "mind": "warning", "good": "pass", "open": "info"}
_OLD_NAMES = {"all_places": "all_positions", "worst_place": "worst_position", "places": "positions"}


def to_dict(audit: Measurements) -> dict[str, Any]:
    """Return the record of an audit, which `json` can write."""
    accuracy, origin, shown = audit.accuracy, audit.origin, headline(audit)
    return _finite(
        {
            "schema": SCHEMA,
            "borderless": versions()["borderless"],
            "model": {
                "name": audit.name,
                "class": audit.kind,
                "border": audit.border,
                "parameters": audit.parameters,
                "task": audit.task,
                "classes": audit.classes,
                "weights": origin.weights,
                "has_random_weights": origin.is_random,
                "device": origin.device,
            },
            "images": {
                "count": audit.images,
                "drawn_from": audit.drawn_from,
                "size": audit.size,
                "preprocessing": origin.preprocessing,
                "mean": origin.mean,
                "deviation": origin.deviation,
                "names": origin.names,
                "skipped": audit.skipped,
                "kinds": audit.kinds,
                "accuracy": None if accuracy is None else accuracy.value,
                "accuracy_low": None if accuracy is None else accuracy.low,
                "accuracy_high": None if accuracy is None else accuracy.high,
            },
            "command": origin.command,
            "seed": audit.seed,
            "repeat": audit.repeat,
            "is_exploiting": is_exploiting(audit),
            "headline": None if shown is None else {**asdict(shown[0]), "where": shown[1]},
            "findings": [asdict(finding) for finding in judge(audit)],
            **{name: part.record(audit) for name, part in discover().items()},
            "missing": audit.missing,
            "notes": audit.notes,
            "duration_s": audit.duration_s,
        }
    )


def read(path: Path | str) -> dict[str, Any]:
    """Return the record in a file, or in the folder that an audit was saved in; an older one in today's words.

    Raises:
        DataError: There is no record, or one of another schema.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"Expected an {FILE} but got {printable(path)}, which cannot be read ({error}).") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema not in (1, 2, SCHEMA):
        raise DataError(
            f"Expected a record of schema 1 to {SCHEMA} but got schema {schema!r} in {printable(path)}; run the audit "
            "again with this version."
        )
    if schema == 1:
        for finding in found["findings"]:
            finding["level"] = _OLD_LEVELS[finding["level"]]
    for part in ("sensitivity", "headline"):
        if schema < SCHEMA and found.get(part):
            found[part] = _renamed(found[part])
    return found


def _renamed(value: Any) -> Any:
    """Replace the names of fields that older schemas had."""
    if isinstance(value, dict):
        return {_OLD_NAMES.get(key, key): _renamed(entry) for key, entry in value.items()}
    return value


def _finite(value: Any) -> Any:
    """Replace what JSON has no numbers for by texts, and NumPy's numbers by plain ones."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
