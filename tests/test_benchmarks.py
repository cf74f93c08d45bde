"""A benchmark's run is recorded with where it comes from, and the page shows what the records say."""

import argparse
import ast
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import record

    return record


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    return page


def test_the_page_is_what_the_records_make(page: ModuleType) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.make_page(), "run: python benchmarks/page.py"


def test_a_run_is_recorded_and_shown(
    record: ModuleType, page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tmp_path / "history"
    monkeypatch.setattr(record, "HISTORY", history)
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    record.add_options(parser, "borders")
    for batch in ("4", "16"):
        words = ["--batch", batch, "--out", str(tmp_path / "out.json"), "--history"]
        monkeypatch.setattr(sys, "argv", ["borders.py", *words])
        rows = [{"arm": "zero", "ms": record.spread([3.0, 1.0, 2.0, 4.0, 5.0]), "losses": [1, 2]}, {"arm": "full"}]
        file = record.save("borders", parser.parse_args(words), rows)
    written = json.loads(file.read_text())
    assert written["command"] == "python benchmarks/borders.py --batch 16"
    assert written["settings"] == {"batch": 16}
    assert written["rows"][0]["ms"] == {"median": 3.0, "quartiles": [1.5, 4.5], "runs": [3.0, 1.0, 2.0, 4.0, 5.0]}
    assert {"torch", "python", "borderless"} <= set(written["versions"])
    assert {"device", "cores", "threads", "system"} == set(written["machine"])
    kept = [json.loads(line) for line in (history / "borders.jsonl").read_text().splitlines()]
    assert [run["settings"]["batch"] for run in kept] == [4, 16]
    assert kept[1]["rows"][0]["ms"] == {"median": 3.0, "quartiles": [1.5, 4.5]}
    shown = page.make_page(history)
    assert shown.index("--batch 16") < shown.index("--batch 4"), "the newest first"
    assert "| arm | ms |\n|---|--:|\n| zero | 3 (1.5–4.5) |\n| full |  |\n" in shown


def test_numbers_are_short_and_never_hidden_by_zeros(page: ModuleType) -> None:
    values = {0: "0", 32_700_000_000.0: "3.27e+10", 1617.4: "1,617", 3.0412: "3.04", 4e-7: "4.00e-07", 535.0: "535"}
    assert {value: page._number(value) for value in values} == values


NAMES = ["audit", "borders", "counts", "occlusion", "phase_choice", "placement", "tile_memory", "tiling", "training"]


def test_a_record_that_cannot_be_written_stops_a_benchmark_before_it_runs(
    record: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    record.add_options(parser, "borders")
    (tmp_path / "file").touch()
    for out, said in ((tmp_path, "is a folder; expected a file"), (tmp_path / "file" / "out.json", "choose another")):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["--out", str(out)])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_writes_that_record(name: str) -> None:
    tree = ast.parse((BENCHMARKS / f"{name}.py").read_text(encoding="utf-8"))
    calls = {
        node.func.attr: [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "record"
    }
    assert calls["add_options"] == calls["save"] == [name]
