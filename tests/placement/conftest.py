"""Placements of small networks would run dense: here windows run wherever they save multiply-adds."""

import pytest

from borderless.placement import switch


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "_CALL", {"cpu": 0.0, "cuda": 0.0})
    monkeypatch.setattr(switch, "_BYTE", {"cpu": 1e-6, "cuda": 1e-6})
