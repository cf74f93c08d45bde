"""An audit as plain numbers and texts: what `audit.json` holds.

The schema has a number, `SCHEMA`; it grows when a field changes its meaning or goes away, not when one is added.
Comparing two audits, or following one over time, needs no PyTorch.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from borderless.auditing.parts import discover
from borderless.auditing.result import Measurements
from borderless.auditing.verdict import is_exploiting, judge
from borderless.errors import DataError
from borderless.report.provenance import versions

SCHEMA = 1
FILE = "audit.json"


def to_dict(audit: Measurements) -> dict[str, Any]:
    """Return the record of an audit, which `json` can write."""
    accuracy = audit.accuracy
    return _finite(
        {
            "schema": SCHEMA,
            "borderless": versions()["borderless"],
            "model": {
                "name": audit.name,
                "class": audit.kind,
                "border": audit.border,
                "parameters": audit.parameters,
                "classes": audit.classes,
            },
            "images": {
                "count": audit.images,
                "drawn_from": audit.drawn_from,
                "size": audit.size,
                "skipped": audit.skipped,
                "kinds": audit.kinds,
                "accuracy": None if accuracy is None else accuracy.value,
                "accuracy_low": None if accuracy is None else accuracy.low,
                "accuracy_high": None if accuracy is None else accuracy.high,
            },
            "seed": audit.seed,
            "repeat": audit.repeat,
            "is_exploiting": is_exploiting(audit),
            "findings": [asdict(finding) for finding in judge(audit)],
            **{name: part.record(audit) for name, part in discover().items()},
            "missing": audit.missing,
            "notes": audit.notes,
            "duration_s": audit.duration_s,
        }
    )


def read(path: Path | str) -> dict[str, Any]:
    """Return the record in a file, or in the folder that an audit was saved in.

    Raises:
        DataError: There is no record, or one of another schema.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"got {path}, which cannot be read as an audit ({error}); needed: an {FILE}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        schema = found.get("schema") if isinstance(found, dict) else None
        raise DataError(f"got {path} with the schema {schema!r}; needed: {SCHEMA}; run the audit again")
    return found


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
