"""Islam's read-out: a padded network gives its places away, on a torus there are none."""

import numpy as np
import pytest
import torch
from torch import nn

from borderless.engine.border import Border
from borderless.errors import DataError
from borderless.measures.position_readout import read_out
from support.planted import network


def images(count: int = 8) -> torch.Tensor:
    """Without any content of their own: noise."""
    return torch.rand(count, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def deep() -> nn.Module:
    """Padding reaches the middle: six convolutions on 24 px with a bias."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(6):
        layers += [nn.Conv2d(3 if i == 0 else 16, 16, 3, 2 if i == 0 else 1, 1), nn.ReLU()]
    return nn.Sequential(*layers).eval()


def test_padding_gives_places_away_and_a_torus_has_none() -> None:
    model = deep()
    with_border, without = read_out(model, images()), read_out(model, images(), Border("circular"))
    assert with_border.module == "10"
    assert with_border.low > 0.5
    assert without.high < 0.5
    assert with_border.mae < without.mae
    assert without.mae == pytest.approx(0.25, abs=0.05)


def test_equals_ridge_regression_of_scikit_learn() -> None:
    from scipy.stats import spearmanr
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1)).eval()
    found = read_out(model, images(), seed=3)
    with torch.no_grad():
        maps = model(images()).double()
    cells = torch.nn.functional.unfold(maps, 3).transpose(1, 2).numpy()
    slopes = np.stack(np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 24), indexing="ij"), -1)[1:-1, 1:-1]
    wanted = slopes.reshape(-1, 2)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3)).numpy()
    scaler = StandardScaler()
    scores = []
    fitted = scaler.fit_transform(cells[order[:4]].reshape(-1, 18))
    for penalty in (1e-4, 1e-2, 1e0):
        ridge = Ridge(alpha=penalty * len(fitted)).fit(fitted, np.tile(wanted, (4, 1)))
        answers = [ridge.predict(scaler.transform(cells[i])) for i in order[4:]]
        scores.append(np.mean([[spearmanr(a[:, k], wanted[:, k])[0] for k in range(2)] for a in answers]))
    assert any(found.spearman == pytest.approx(score, abs=1e-3) for score in scores)


def test_too_few_images_or_no_map() -> None:
    with pytest.raises(DataError, match="at least four images"):
        read_out(network(), images(3))
    with pytest.raises(DataError, match="feature map of at least 5 × 5 cells"):
        read_out(network(stride=8), images())
