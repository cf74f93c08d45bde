"""Placements of small networks, which run dense by themselves because a window costs a call."""

import pytest

from borderless.placement import switch


def let_windows_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let windows run wherever they save multiply-adds."""
    monkeypatch.setattr(switch, "_CALL", {"cpu": 0.0, "cuda": 0.0})
    monkeypatch.setattr(switch, "_BYTE", {"cpu": 1e-6, "cuda": 1e-6})
    monkeypatch.setattr(switch, "_PLANNED", {"cpu": 0.0, "cuda": 0.0})
    monkeypatch.setattr(switch, "_SAVED", 0.0)
