"""Networks by import path: what is found and built, and each mistake in one sentence."""

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.errors import BorderlessError, CheckpointError, ConfigError, UnknownName, WeightMismatch
from borderless.models import load
from borderless.models.importing import built, imported
from borderless.models.request import NetworkRequest, architecture

MINE = """
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout())


def of_depth(depth, width=3):
    return nn.Conv2d(depth, width, 1)


class Network(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 2, 1)


def broken():
    raise RuntimeError("no such file: stage two.\\nsecond line")


def leaving():
    raise SystemExit(3)


def dictionary():
    return {}


WIDTH = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with modules in it; afterwards they are forgotten."""
    (tmp_path / "my_nets").mkdir()
    (tmp_path / "my_nets" / "__init__.py").touch()
    (tmp_path / "my_nets" / "mine.py").write_text(MINE)
    (tmp_path / "my_torn.py").write_text("1 / 0\n")
    (tmp_path / "my_script.py").write_text("raise SystemExit('usage: my_script FILE')\n")
    (tmp_path / "my_needy.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_functions_and_classes_of_the_current_folder_and_of_packages_build_networks() -> None:
    assert isinstance(built("my_nets.mine:build"), nn.Sequential)
    assert isinstance(built("my_nets.mine:Network"), nn.Conv2d)
    assert imported("torch.nn:functional.relu") is nn.functional.relu
    assert not architecture("my_nets.mine:build").training


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        (
            "nowhere.mine:build",
            UnknownName,
            "there is no nowhere in the current folder or among the installed packages",
        ),
        ("my_nets.yours:build", UnknownName, "there is no my_nets.yours in the current folder"),
        ("my_nets.mine:biuld", UnknownName, "Expected an existing name but got 'biuld'; did you mean build?"),
        ("my_nets.mine:WIDTH", ConfigError, "Expected a function or a class at my_nets.mine:WIDTH but got int"),
        ("my_nets.mine:of_depth", ConfigError, "without arguments but got my_nets.mine:of_depth, which needs depth;"),
        ("my_nets.mine:broken", ConfigError, "but got RuntimeError: no such file: stage two; mend it"),
        ("my_nets.mine:leaving", ConfigError, "but got SystemExit: 3"),
        (
            "my_nets.mine:dictionary",
            ConfigError,
            "Expected a torch.nn.Module from my_nets.mine:dictionary but got dict",
        ),
        ("my_torn:build", ConfigError, "Expected to import my_torn but got ZeroDivisionError: division by zero"),
        ("my_script:build", ConfigError, "but got SystemExit: usage: my_script FILE while its code ran"),
        ("my_needy:build", ConfigError, "it needs the package a_package_that_nobody_has, which is not installed"),
        ("my_nets.mine", UnknownName, "Expected package.module:name but got 'my_nets.mine'"),
    ],
)
def test_each_mistake_is_one_sentence(path: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)) as told:
        built(path)
    assert isinstance(told.value, BorderlessError)
    assert "\n" not in str(told.value)


def test_weights_are_those_of_the_file_or_of_the_seed(folder: Path) -> None:
    wanted = built("my_nets.mine:Network")
    torch.save({"state_dict": wanted.state_dict()}, folder / "w.pt")
    found = NetworkRequest("my_nets.mine:Network", weights="w.pt").load()
    assert isinstance(found, nn.Conv2d) and torch.equal(found.weight, wanted.get_parameter("weight"))
    one, other = (NetworkRequest("my_nets.mine:Network", seed=3).load().get_parameter("weight") for _ in range(2))
    assert torch.equal(one, other)
    with pytest.raises(WeightMismatch, match="Expected the 2 entries of my_nets"):
        NetworkRequest("my_nets.mine:build", weights="w.pt").load()
    with pytest.raises(CheckpointError, match="which does not exist"):
        NetworkRequest("my_nets.mine:build", weights="none.pt").load()
    with pytest.raises(UnknownName, match="but got --classes 3; leave it out"):
        NetworkRequest("my_nets.mine:build", classes=3).load()


class _Plant:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_nothing_in_a_file_of_weights_is_run(folder: Path, writer: str) -> None:
    planted = {"weight": torch.zeros(1), "plant": _Plant(folder / "ran")}
    if writer == "torch":
        torch.save(planted, folder / "w.pt")
    else:
        (folder / "w.pt").write_bytes(pickle.dumps(planted))
    with pytest.raises(CheckpointError, match="could run code from the file"):
        NetworkRequest("my_nets.mine:build", weights="w.pt").load()
    assert not (folder / "ran").exists()
    if writer == "torch":  # the plant is a real one
        torch.load(folder / "w.pt", weights_only=False)
    else:
        pickle.loads((folder / "w.pt").read_bytes())
    assert (folder / "ran").exists()


def test_a_name_from_elsewhere_is_never_imported(folder: Path) -> None:
    """The playground passes what visitors type to `load`."""
    (folder / "my_trap.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    with pytest.raises(UnknownName):
        load("my_trap:build")
    assert not (folder / "ran").exists()


def test_a_network_by_import_path_has_imagenets_normalization_and_a_folder() -> None:
    request = NetworkRequest("my_nets.mine:build")
    assert request.normalization == NetworkRequest("resnet18").normalization
    assert request.slug == "my_nets.mine-build"
    assert not request.is_random
    assert NetworkRequest("my_nets.mine:build", weights="random").is_random
