"""An audit as plain numbers and texts: what `audit.json` holds.

The schema has a number, `SCHEMA`; it grows when a field changes its meaning or goes away, not when one is added.
Whoever compares two audits, or follows one over time, needs no PyTorch for it.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from borderless.errors import DataError

if TYPE_CHECKING:
    from borderless.auditing.measure import Audit
    from borderless.measures.location_probe import Probe

SCHEMA = 1
FILE = "audit.json"


def to_dict(audit: "Audit") -> dict[str, Any]:
    from borderless.auditing.judge import is_exploiting, judge
    from borderless.version import __version__

    placed, layout, errors, decoded = audit.sensitivity, audit.layout, audit.errors, audit.decodability
    return _finite(
        {
            "schema": SCHEMA,
            "borderless": __version__,
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
                "accuracy": None if audit.accuracy is None else audit.accuracy.value,
                "accuracy_low": None if audit.accuracy is None else audit.accuracy.low,
                "accuracy_high": None if audit.accuracy is None else audit.accuracy.high,
            },
            "seed": audit.seed,
            "repeat": audit.repeat,
            "is_exploiting": is_exploiting(audit),
            "findings": [asdict(finding) for finding in judge(audit)],
            "layout": None
            if layout is None
            else {
                "total_stride_px": layout.total_stride_px,
                "receptive_field_px": layout.receptive_field_px,
                "macs": layout.macs,
                "costs": layout.costs,
                "position_reads": [asdict(read) for read in layout.position_reads],
                "uneven_padding": [asdict(one) for one in layout.uneven],
                "even_sizes": layout.even_sizes,
                "unread_rows": None if audit.influence is None else audit.influence.unread_rows,
                "unread_columns": None if audit.influence is None else audit.influence.unread_columns,
            },
            "border_error": None
            if errors is None
            else {
                "leak_px": errors.leak_px,
                "largest": errors.largest,
                "aware_share": errors.aware_share,
                "layers": [
                    {
                        "module": layer.module,
                        "operation": layer.operation,
                        "stride_px": layer.stride_px,
                        "field_px": layer.field_px,
                        "leak_px": layer.leak_px(),
                        "by_distance": layer.by_distance.tolist(),
                        "filters": layer.filters,
                        "aware": layer.aware,
                    }
                    for layer in errors.layers
                ],
            },
            "sensitivity": None
            if placed is None
            else {
                "canvas": placed.canvas,
                "worst_place": placed.worst,
                "all_places": asdict(placed.all_places),
                "border": asdict(placed.border),
                "border_control": asdict(placed.border_control),
                "bias": asdict(placed.bias),
                "stride": asdict(placed.stride),
                "stride_control": asdict(placed.stride_control),
                "on_photograph": None if audit.on_photograph is None else asdict(audit.on_photograph),
                "accuracy_at_middle": audit.accuracy_at_middle,
                "accuracy_elsewhere": audit.accuracy_elsewhere,
            },
            "shifts": {
                name: {"value": one.value, "low": one.low, "high": one.high, "fidelity": one.fidelity}
                for name, one in audit.shifts.items()
            },
            "decodability": None
            if decoded is None
            else {
                "module": decoded.module,
                "test_objects": decoded.objects,
                "quadrant": {str(px): _probe(probe) for px, probe in decoded.quadrant.items()},
                "quadrant_without_border": _probe(decoded.quadrant_without),
                "read_out": asdict(decoded.read_out),
                "read_out_torus": asdict(decoded.torus),
                "read_out_untrained": None if decoded.untrained is None else asdict(decoded.untrained),
            },
            "reach": [asdict(point) for point in audit.reach],
            "missing": audit.missing,
            "notes": audit.notes,
            "duration_s": audit.duration_s,
        }
    )


def read(path: Path | str) -> dict[str, Any]:
    """The record in a file, or in the folder that an audit was saved in. Raises DataError if there is none."""
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


def _probe(probe: "Probe") -> dict[str, float]:
    return {
        "accuracy": probe.score.accuracy,
        "low": probe.score.low,
        "high": probe.score.high,
        "control": probe.control.accuracy,
        "control_low": probe.control.low,
        "control_high": probe.control.high,
        "change": probe.change,
    }


def _finite(value: Any) -> Any:
    """With texts for what JSON has no numbers for, and plain numbers for NumPy's."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
