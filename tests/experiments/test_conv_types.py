"""The figure on convolution types, against scipy's three modes of correlation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.signal import correlate2d

from borderless.experiments import EXPERIMENTS
from borderless.experiments.conv_types import ConvTypesConfig
from borderless.experiments.conv_types import experiment as conv_types
from borderless.experiments.runner import run


@pytest.mark.parametrize(("border", "mode"), [("valid", "valid"), ("zero", "same"), ("full", "full")])
def test_maps_are_those_of_scipy(border: str, mode: str, tmp_path: Path) -> None:
    config = ConvTypesConfig(borders=(border,))
    (cell,) = EXPERIMENTS["conv-types"].cells(config)
    conv_types.run_cell(config, cell, tmp_path)
    maps = np.load(tmp_path / "maps.npz")
    kernel = conv_types.network().weight[0, 0].numpy()
    for window, image in zip(maps["window"][:, 0], conv_types.images(config.size)[:, 0].numpy(), strict=True):
        np.testing.assert_array_equal(window, correlate2d(image, kernel, mode))


def test_only_full_and_infinite_see_both_pixels_and_circular_does_by_wrapping(tmp_path: Path) -> None:
    section = EXPERIMENTS["conv-types"]
    config = ConvTypesConfig()
    page = run(section, config, tmp_path, progress=False)
    responses = {str(row[0]): row[1:3] for row in page.tables[0].rows}
    assert all(lower_right == "1" for _, lower_right in responses.values())
    found = [border for border, (upper_left, _) in responses.items() if upper_left == "1"]
    assert found == ["circular", "full", "infinite"]
    with Image.open(page.figures[0].path) as picture:
        assert picture.width > 1000
    assert (tmp_path / "table.csv").read_text().count("\n") == 8
