"""Networks as a command names them: folders of their own, files without their architecture."""

from pathlib import Path

import pytest
import torch

from borderless.errors import CheckpointError
from borderless.models.request import NetworkRequest, slug


def test_every_network_has_a_folder_of_its_own() -> None:
    names = ["resnet50", "timm/resnet50", "timm/resnet50.a1_in1k", "a/best.pt", "b/best.pt"]
    assert len({NetworkRequest(name).slug for name in names}) == 5
    assert slug("timm/resnet50") == "timm-resnet50"
    assert NetworkRequest("/somewhere/else/a/best.pt").slug == "a-best"


def test_only_the_bare_name_of_the_packaged_network_has_packaged_weights() -> None:
    bare, timms, other = map(
        NetworkRequest, ("tf_efficientnet_lite0", "timm/tf_efficientnet_lite0", "efficientnet_lite0")
    )
    assert bare._kept == "packaged"
    assert timms._kept == other._kept == "pretrained"
    assert bare.normalization[0][0] == 127 / 255
    assert timms.normalization[0][0] == 0.5
    assert "tf" in bare.load().default_cfg["architecture"]


def test_a_file_needs_its_architecture_whatever_is_asked_of_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save({}, path)
    request = NetworkRequest(str(path))
    for ask in (request.load, lambda: request.normalization):
        with pytest.raises(CheckpointError, match="Expected --arch"):
            ask()
