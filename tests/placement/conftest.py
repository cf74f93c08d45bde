"""Placements of small networks would run dense: here windows run wherever they save multiply-adds."""

import pytest

from support.placements import let_windows_pay


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    let_windows_pay(monkeypatch)
