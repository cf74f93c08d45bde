"""The command line: what it says, its exit codes, and that asking for help loads nothing heavy."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from borderless import __version__
from borderless.cli import main as cli
from borderless.cli.commands import demo
from borderless.experiments import EXPERIMENTS


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert "borderless run rook" in out
    assert all(name in out for name in EXPERIMENTS)
    assert call(capsys)[1] == out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"borderless {__version__}\n", "")


def test_the_command_line_knows_every_experiment() -> None:
    for name, summary in EXPERIMENTS.summaries.items():
        assert EXPERIMENTS[name].summary == summary


@pytest.mark.parametrize(
    "words",
    ["", "--help", "--version", "run --help", "demo --help", "explain --help", "audit --help", "finetune --help"],
)
def test_help_is_there_at_once(words: str) -> None:
    """PyTorch takes seconds to import: whoever asks for help does not wait for it, nor for anything as heavy."""
    heavy = ("torch", "numpy", "matplotlib", "torchvision", "timm", "sklearn", "skimage", "jinja2", "PIL")
    code = (
        f"import sys; from borderless.cli.main import main; code = main({words.split()}); "
        f"print(code, [name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    assert done.stdout


def test_the_options_of_an_experiment_are_there_at_once() -> None:
    """Settings name networks, data and arms without what computes with them; NumPy alone is allowed."""
    heavy = ("torch", "matplotlib", "torchvision", "timm", "sklearn", "skimage", "kornia", "rich.progress", "ray")
    code = (
        "import sys; from borderless.cli.main import main\n"
        f"for name in {list(EXPERIMENTS)}:\n"
        "    code = main(['run', name, '--help'])\n"
        f"    print(name, code, [name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"{name} 0 []" for name in EXPERIMENTS]
    assert all(f"Usage: borderless run {name} " in done.stdout for name in EXPERIMENTS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["exlain"], "Expected an existing command but got 'exlain'; did you mean explain?"),
        (["run", "rock"], "Expected an existing experiment but got 'rock'; did you mean rook?"),
        (["run", "xyz"], "choose one of equivariance, conv-types, rook, one-place, placed-object, quadrant"),
        (["explain", "resnet81"], "did you mean resnet18"),
        (["explain", "tim/resnet18"], "Expected an existing library but got 'tim'; did you mean timm?"),
        (["explain", "torchvision/convnextv2_tiny"], "but got 'torchvision/convnextv2_tiny'"),
        (["explain", "--border", "full"], "write: borderless explain resnet50 --border"),
        (["explain", "resnet18", "--border", "zero", "--reach", "2"], "reach=2"),
        (["run", "conv-types", "--borders", "zeros"], "Expected borders to be one or more values"),
        (["run", "shifts", "--small", "--data", "here"], "but got both"),
        (["run", "shifts", "--classes", "imagenet-a", "--data", "nowhere"], "nowhere"),
        (["run", "rook", "--epochs", "-1"], "Expected epochs to be at least 1 but got epochs=-1"),
        (["run", "rook", "--epochs", "0"], "Expected epochs to be at least 1"),
        (["run", "rook", "--learning-rate", "nan"], "but got learning_rate=nan"),
        (["run", "rook", "--learning-rate", "inf"], "but got learning_rate=inf"),
        (["run", "red-green", "--learning-rate", "nan"], "Expected learning_rate to be a finite number but got nan"),
        (["run", "rook", "--sedes", "1"], "Expected an existing option but got '--sedes'; did you mean --seeds"),
        (["run", "rook", "--seeds", "many"], "Expected a whole number for --seeds but got 'many'"),
        (["playground", "--port", "abc"], "Expected a whole number for --port but got 'abc'"),
        (["audit", "resnet18", "--fail-above", "abc"], "Expected a number for --fail-above but got 'abc'"),
        (["run", "quadrant", "--borders-px", "3", "x"], "Expected other values for --borders-px but got ['3', 'x']"),
        (["run", "rook", "--seeds"], "Expected a value after --seeds but got none"),
        (["run", "rook", "--seeds", "999999999"], "Expected seeds to be from 1 to 10000"),
        (["run", "rook", "--folder", "/proc/x"], "Expected a folder to write to but got /proc/x"),
        (["demo", "--folder", "/proc/x"], "Expected a folder to write to but got /proc/x"),
        (["explain", "resnet18", "--size", "-1", "5"], "Expected sides of 1 to 16384 pixels but got -1"),
        (["explain", "resnet18", "--size", "99999999", "99999999"], "but got 99999999"),
        (["explain", "resnet18", "--border", "zeros"], "Expected --border to be one of 'valid', 'zero'"),
        (["playground", "--port", "-1"], "Expected a port from 0 to 65535 but got -1"),
        (["playground", "--port", "99999999"], "Expected a port from 0 to 65535 but got 99999999"),
        (["playground", "--host", "999.999.1.1"], "Expected an address of this machine but got --host"),
        (["tile", "a", "b", "c", "--tile", "-5"], "Expected tile to be at least 1"),
        (["occlude", "resnet18", "--size", "8"], "Expected a network and an image first but got 'resnet18 --size'"),
        (["occlude", "resnet18", "nowhere.png"], "Expected an image but got 'nowhere.png', where there is none"),
        (["run", "conv-types", "--folder", "/dev/null/here"], "Expected a folder to write to but got /dev/null/here"),
    ],
)
def test_mistakes_get_one_clear_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *words)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err


def test_a_full_disk_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("borderless.runtime.files.os.fsync", full)
    code, _, err = call(capsys, "run", "conv-types", "--size", "5", "--folder", str(tmp_path))
    assert code == 2
    assert f"got 'No space left on device' at {tmp_path}" in err
    assert not list(tmp_path.rglob("*.tmp"))


def test_run_writes_where_it_says_and_prints_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "types"
    code, out, _ = call(
        capsys, "run", "conv-types", "--size", "5", "--borders", "valid", "full", "--folder", str(folder)
    )
    assert code == 0
    assert f"The report is in {folder / 'report.html'}" in out.replace("\n", " ")
    assert "pixel upper left" in out
    assert "<em>" not in out
    assert (folder / "report.html").is_file()
    assert sorted(path.parent.name for path in folder.glob("*/result.json")) == ["full", "valid"]


def test_small_settings_are_defaults_that_options_override(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = call(
        capsys,
        "run",
        "equivariance",
        "--small",
        "--borders",
        "infinite",
        "--largest-shift",
        "1",
        "--folder",
        str(tmp_path),
    )
    assert (code, err.count("Traceback")) == (0, 0)
    assert (tmp_path / "infinite-bias" / "result.json").is_file()
    code, _, err = call(capsys, "run", "equivariance", "--small", "--borders", "full", "--folder", str(tmp_path))
    assert code == 2
    assert "another config" in err


def test_demo_puts_its_experiments_on_one_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(demo.DEMO) == list(EXPERIMENTS)[: len(demo.DEMO)], "the story begins at the beginning"
    monkeypatch.setattr(demo, "DEMO", ("equivariance", "conv-types"))
    monkeypatch.setattr(demo, "BESIDE", "equivariance")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    started, start = [], subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **options: started.append(start(*args, **options)) or started[-1]
    )
    code, out, _ = call(capsys, "demo", "--folder", str(tmp_path))
    assert code == 0
    (beside,) = [process for process in started if process.args[0] == sys.executable]
    assert beside.args[3:] == ["run", "equivariance", "--small", "--folder", str(tmp_path / "equivariance")]
    assert beside.returncode == 0, "it ended by itself"
    assert f"The report is in {tmp_path / 'report.html'}" in out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("1. Shift, then convolve") < page.index("2. What a border crops")
    assert page.count("<img ") == 3


def test_options_of_one_experiment_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "run", "rook", "--help")
    assert code == 0
    assert "--learning-rate" in out
    assert "Learning rate of SGD (default: 0.1)" in out


def test_tiling_prints_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "tiling", "torchvision/squeezenet1_1", "--size", "512", "512", "--tiles", "128")
    assert code == 0 and "512×512" in out and "tiles wait for one another" in out and "128×128" in out
    code, out, _ = call(capsys, "tiling", "torchvision/squeezenet1_1", "--size", "512", "512", "--json")
    assert code == 0 and json.loads(out)["exact"] is True


def test_explain_prints_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "explain", "torchvision/squeezenet1_1", "--size", "64", "64", "--border", "full")
    assert code == 0
    assert "features.0" in out
    assert "total stride" in out


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from borderless.experiments.conv_types import experiment as conv_types

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conv_types, "network", interrupted)
    code, _, err = call(capsys, "run", "conv-types", "--folder", str(tmp_path))
    assert code == 130
    assert "0 of 7 cells" in err
    assert "run the same command again" in err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "Expected more room on the disk (nothing is lost"),
        (
            PermissionError(errno.EACCES, "Permission denied", "here"),
            2,
            "Expected a file or folder that can be used but got 'Permission denied' at here",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_the_disk_and_the_reader(
    error: OSError, code: int, text: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(words: list[str]) -> None:
        raise error

    monkeypatch.setattr("borderless.cli.commands.run.execute", fail)
    monkeypatch.setattr(cli.os, "dup2", lambda *_: None)  # pytest reads what goes there
    assert cli.main(["run", "rook"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert text in err and err.count("\n") == bool(text)


def test_an_error_that_is_nobodys_place_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: list[str]) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("borderless.cli.commands.run.execute", fail)
    with pytest.raises(PermissionError):
        cli.main(["run", "rook"])


@pytest.mark.parametrize(
    "words", ["audit", "finetune", "explain", "tiling", "tile", "occlude", "playground", "demo", "run quadrant"]
)
def test_a_help_text_has_a_dozen_options_and_the_rest_on_demand(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, short, _ = call(capsys, *words.split(), "--help")
    assert code == 0
    lines = short.split("\nOptions:\n")[1].splitlines()
    assert 1 <= len([line for line in lines if "--help-all" not in line]) <= 12
    assert all(len(line) <= 120 for line in lines)
    code, whole, _ = call(capsys, *words.split(), "--help-all")
    assert code == 0
    assert whole.count("  --") >= short.count("  --") - 1
    for internal in ("None", "{", "(default: )", "STR", "(default: '')"):
        assert internal not in whole


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_help_of_an_experiment_has_one_usage_line_and_says_what_starts_from_other_settings(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--help", "--help-all"):
        code, out, _ = call(capsys, "run", name, option)
        assert code == 0
        assert out.startswith(f"Usage: borderless run {name} ") and out.lower().count("usage:") == 1
        assert "?." not in out
        assert "  --small  " in out.split("\nOther options change these settings:\n")[1]


def test_a_cell_that_is_a_file_and_arrays_that_are_missing_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("run", "conv-types", "--size", "5", "--borders", "full", "--folder", str(tmp_path))
    (tmp_path / "full").write_text("")
    code, _, err = call(capsys, *words)
    assert code == 2
    assert f"Expected a file or folder that can be used but got 'File exists' at {tmp_path / 'full'}" in err
    (tmp_path / "full").unlink()
    assert call(capsys, *words)[0] == 0
    (tmp_path / "full" / "maps.npz").unlink()
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "Expected the arrays of a finished cell" in err


def test_what_killed_processes_left_is_cleared_when_it_is_old(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    old, new = (tmp_path / "full" / f".result.json.{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (0, 0))
    words = ("run", "conv-types", "--size", "5", "--borders", "full", "--folder", str(tmp_path))
    assert call(capsys, *words)[0] == 0
    assert not old.exists()
    assert new.exists()  # another process may be writing it


def test_every_suggestion_works_as_it_is_written() -> None:
    from borderless.errors import UnknownName
    from borderless.models.loading import resolve

    for wrong in ("resnet19", "timm/resnet19", "efficientnet_lite9"):
        with pytest.raises(UnknownName) as found:
            resolve(wrong)
        for name in str(found.value).split("did you mean ")[1].rstrip("?").replace(" or ", ", ").split(", "):
            assert resolve(name)[1]
