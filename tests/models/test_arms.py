"""Arms: what they train, what they deploy, and what they cost."""

import dataclasses

import pytest
import torch

import borderless as bl
from borderless.models.arms import ARMS
from borderless.models.small import classifier, network


@pytest.mark.parametrize("reach", [None, 1])
def test_the_padded_arm_costs_as_much_as_full_and_no_pixel_more(reach: int | None) -> None:
    plain, size = classifier("small", 10, seed=0).eval(), (32, 32)
    arm = dataclasses.replace(ARMS["own-padded"], reach=reach)
    model = arm.apply(plain, size)
    padding_px = model[0].padding[0]
    aim = bl.explain(plain, size, bl.Border("full", reach=reach)).macs
    assert bl.explain(plain, (32 + 2 * padding_px,) * 2, "zero").macs >= aim
    assert bl.explain(plain, (30 + 2 * padding_px,) * 2, "zero").macs < aim
    assert arm.cost(plain, size) >= aim / bl.explain(plain, size, "zero").macs
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        padded = torch.nn.functional.pad(images, (padding_px,) * 4)
        assert torch.equal(model.eval()(images), plain(padded))


@pytest.mark.parametrize("name", [name for name in ARMS if name.startswith("recipe")])
def test_the_recipe_trains_with_the_fixed_phase_and_deploys_the_adaptive_one(name: str) -> None:
    arm = ARMS[name]
    trained = arm.apply(network(seed=0).eval())
    deployed = arm.deploy(trained)
    assert arm.moves
    borders = bl.border_of(trained), bl.border_of(deployed)
    assert [(border.name, border.phase) for border in borders] == [("infinite", "fixed"), ("infinite", "adaptive")]
    assert [border.reach for border in borders] == [arm.reach, None if arm.lifted else arm.reach]
    assert {border.count for border in borders} == {arm.count}
    with torch.no_grad():
        trained[0].weight.mul_(2)
    again = arm.deploy(trained)
    image = torch.zeros(1, 1, 32, 32)
    image[..., 9:20, 9:20] = torch.rand(11, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = (again(one) for one in (image, image.roll((3, 2), (2, 3))))
        assert not torch.allclose(again(image), deployed(image)), "deployed with the weights of the moment"
    assert torch.allclose(here, there, atol=1e-5)


def test_other_arms_deploy_what_was_trained() -> None:
    for name, arm in ARMS.items():
        if not name.startswith("recipe"):
            trained = arm.apply(network(seed=0), (16, 16))
            assert arm.deploy(trained) is trained
            assert arm.moves == name.endswith("-moved")


def test_reach_lowers_the_cost() -> None:
    plain = network(seed=0)
    costs = [ARMS[name].cost(plain, (32, 32)) for name in ("own", "infinite-reach1", "infinite-reach2", "recipe")]
    assert costs == sorted(set(costs)) and costs[0] == 1
    for name in ("recipe", "recipe-lifted"):
        assert ARMS[name].cost(plain, (32, 32)) == ARMS["infinite-adaptive"].cost(plain, (32, 32))
