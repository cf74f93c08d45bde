"""The audit on networks whose use of location was put there: what it says, and what it must not say."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import borderless as bl
from borderless.auditing.parts import layout
from borderless.auditing.parts.reach import ReachPoint
from borderless.auditing.result import Accuracy, Finding
from borderless.auditing.verdict import headline, is_exploiting, judge
from borderless.data import rook
from borderless.errors import DataError, ImageError
from borderless.report.content import LEVELS
from support.planted import network, rooks, trained_rook


def images(count: int = 8, side: int = 24) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_importing_the_package_loads_nothing_that_draws_or_probes() -> None:
    heavy = ("matplotlib", "sklearn", "scipy", "jinja2", "PIL", "rich", "timm", "torchvision")
    program = f"import sys, borderless; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def named(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize(("border", "exploits"), [("zero", True), ("full", False), ("infinite", False)])
def test_a_rook_network_exploits_location_only_where_the_border_lets_it(border: str, exploits: bool) -> None:
    model = trained_rook(border)
    found = bl.audit(model, rook.images(), rook.labels(), objects=rooks(), position_count=49)
    assert is_exploiting(found) is exploits
    assert found.accuracy is not None and found.accuracy.value == (1.0 if exploits else 0.5)
    verdict = judge(found)[0]
    assert verdict.level == ("fail" if exploits else "pass")
    assert ("uses absolute position" in verdict.text) is exploits
    assert found.sensitivity is not None
    assert (found.sensitivity.all_positions.flips > 0) is exploits
    assert found.sensitivity.border_control.change == 0


def test_bias_decides_whether_full_convolution_has_a_border() -> None:
    plain = bl.audit(bl.convert(network(bias=False), "full"), images())
    assert plain.errors is not None
    assert plain.errors.largest < 1e-5
    assert named(judge(plain))["leak"].level == "pass"
    biased = bl.audit(bl.convert(network(), "full"), images())
    assert biased.errors is not None
    assert biased.errors.largest > 0.05
    assert "bias" in named(judge(biased))
    endless = bl.audit(bl.convert(network(), "infinite"), images())
    assert endless.errors is not None
    assert endless.errors.largest < 1e-5
    assert named(judge(endless))["border"].level == "pass"


def test_strides_are_not_taken_for_the_border() -> None:
    found = bl.audit(bl.convert(network(), "infinite"), images())
    findings = named(judge(found))
    assert findings["stride"].level == "warning"
    assert not is_exploiting(found)
    both = named(judge(bl.audit(bl.convert(network(), "infinite", phase="adaptive"), images())))
    assert both["verdict"].level == "pass"
    assert "stride" not in both


class WithPositions(nn.Module):
    """A convolution, a position embedding, a pool."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.positions = nn.Parameter(torch.randn(1, 4, 24, 24))
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.stem(images) * self.positions).relu().mean((2, 3)))


def test_a_position_embedding_is_named() -> None:
    found = bl.audit(WithPositions().eval(), images())
    reads = [finding for finding in judge(found) if finding.name == "position-read"]
    assert len(reads) == 1
    assert reads[0].level == "fail"
    assert "reads absolute position" in reads[0].text
    assert judge(found)[0].level != "pass"
    assert "shifts, zhang2019" in found.missing  # it takes images of one size
    assert "circular" in found.shifts
    # What is left without a border is not the border's doing, and is not called so.
    assert not is_exploiting(found)


def test_a_blind_spot_of_uneven_padding_is_named_with_its_rows() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.MaxPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    findings = named(judge(bl.audit(model, images()[:, :, :22])))
    assert "rows 20–21 (of 22)" in findings["blind-rows"].text
    assert "blind-columns" not in findings
    assert "1 layer pads" in findings["uneven-padding"].text
    assert "blind-rows" not in named(judge(bl.audit(model, images())))


def test_the_record_is_json_and_has_everything(tmp_path: Any) -> None:
    found = bl.audit(network(), images(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), name="planted")
    page = found.save(tmp_path)
    record = json.loads((tmp_path / "audit.json").read_text())
    assert record == json.loads(json.dumps(found.to_dict()))
    assert record["schema"] == 3
    assert record["model"]["name"] == "planted"
    assert record["images"]["count"] == 8
    assert record["missing"] == {}
    assert record["findings"][0]["name"] == "verdict"
    assert [layer["module"] for layer in record["border_error"]["layers"]] == ["0", "2"]
    assert record["sensitivity"]["border_control"]["change"] < 1e-5
    assert record["decodability"]["module"] == "5"
    assert set(record["shifts"]) == {"zhang2019", "circular", "canvas"}
    assert record["reach"][-1]["reach"] is None
    assert record["reach"][-1]["error"] < 1e-5 < record["reach"][0]["error"]
    text = page.read_text()
    assert "Audit of planted" in text
    assert "http" not in text.split("<main>")[1]
    assert str(found).splitlines()[0].startswith(LEVELS[judge(found)[0].level])
    assert any("<em>" in finding.text for finding in judge(found))
    assert not re.search(r"</?\w+>", str(found))


def test_two_audits_are_the_same_and_the_model_is_left_as_it_was() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    one, other = (bl.audit(model, images()).to_dict() for _ in range(2))
    for record in (one, other):
        del record["duration_s"]
    assert one == other
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Returning(nn.Module):
    """`network`, with its answer in something."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.inner, self.wrap = network(), wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(self.inner(images))


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda x: {"features": x[:, :, None], "logits": x}, "the model's dict, the entry 'logits'"),
        (lambda x: (x, None), "the model's tuple, the entry 0"),
        (lambda x: x[:, :1], "one logit"),
    ],
)
def test_answers_in_other_forms_are_taken_and_noted(wrap: Any, note: str) -> None:
    found = bl.audit(Returning(wrap).eval(), images())
    assert note in found.notes[0]
    assert found.missing == {}
    assert found.classes == (2 if note == "one logit" else 3)


def test_what_cannot_be_measured_is_named_and_the_rest_goes_on() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(torch.fft.ifft2(torch.fft.fft2(images)).real)

    found = bl.audit(Strange().eval(), images(), torch.zeros(8, dtype=torch.long))
    assert {"layout", "border error", "objects on a canvas", "decodability", "reach"} <= set(found.missing)
    assert "which separates the border from the stride" in found.missing["objects on a canvas"]
    assert "fft" in found.missing["border error"]
    assert set(found.shifts) == {"zhang2019", "circular", "canvas"}
    assert judge(found)[0].level == "info"
    assert sum(finding.name == "not-measured" for finding in judge(found)) == len(found.missing)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network(bias=False, padding=0)

    def forward(self, images: Tensor) -> Tensor:
        answers = self.inner(images)
        return answers + torch.rand(answers.shape)


def test_a_network_that_answers_differently_each_time_is_not_blamed_on_the_border() -> None:
    torch.manual_seed(0)
    found = bl.audit(Noisy().eval(), images())
    assert found.repeat > 0.1
    assert not is_exploiting(found)
    findings = named(judge(found))
    assert findings["verdict"].level == "info"
    assert "no more than where nothing should differ" in findings["verdict"].text
    assert findings["border"].level == "info"
    assert "cannot be determined" in findings["border"].text
    assert "stride" not in findings


def deep(strides: int = 5) -> nn.Module:
    """A total stride of 32, more than half of a small image."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(strides):
        layers += [nn.Conv2d(3 if i == 0 else 6, 6, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()


def test_the_canvas_grows_until_places_are_whole_strides_apart() -> None:
    found = bl.audit(deep(), images(side=32))
    assert found.sensitivity is not None
    assert found.sensitivity.canvas == (14 + 64, 14 + 64)
    assert found.sensitivity.border.positions == 8
    assert named(judge(found))["border"].level == "warning"
    assert found.on_photograph is not None  # at the size of the images
    assert found.missing == {}
    # There is no room for a whole stride on the image itself, so nothing is said of what a reach would do.
    assert all(point.error is None for point in found.reach)
    assert "as good" not in named(judge(found))["cost"].text
    errors = found.errors
    assert errors is not None
    assert errors.leak_px == 16  # half of the image, however coarse the map


class Fixed(nn.Module):
    """Refuses other sizes, as many a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (24, 24), "wrong size"
        return self.inner(images)


class InPlace(nn.Module):
    """Changes its input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.mul_(2))


class WithoutGradients(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


@pytest.mark.parametrize("kind", [Fixed, InPlace, WithoutGradients])
def test_peculiar_models_are_judged_as_their_plain_twin_is(kind: type[nn.Module]) -> None:
    mine = images()
    before = mine.clone()
    found = bl.audit(kind().eval(), mine)
    assert torch.equal(mine, before)
    assert found.layout is not None
    assert named(judge(found))["border"].level == "warning"


def test_answers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ImageError, match="Expected finite logits"):
        bl.audit(Returning(lambda x: x * torch.nan).eval(), images())


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (torch.zeros(7, dtype=torch.long), r"shape \(7,\)"),
        (torch.zeros(8), "torch.float32"),
        (torch.full((8,), 3), "Expected labels from 0 to 2 for a model with 3 classes but got 3 to 3"),
        (torch.full((8,), -1), "but got -1 to -1"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_else(labels: Tensor, text: str) -> None:
    with pytest.raises(ImageError, match=text):
        bl.audit(network(), images(), labels)


def test_images_that_the_model_cannot_take_are_an_error_of_ours() -> None:
    with pytest.raises(ImageError, match="cannot run on shape"):
        bl.audit(network(), torch.randn(4, 1, 24, 24))
    with pytest.raises(DataError, match="Expected a folder of images but got 'photos'"):
        bl.audit(network(), "photos")


def test_a_maximum_elsewhere_is_no_blind_spot() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    findings = named(judge(bl.audit(model, images(side=48))))
    assert "blind-rows" not in findings
    assert "blind-columns" not in findings


def test_a_pool_over_the_whole_map_is_left_out_and_the_rest_compared() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    found = bl.audit(model, images())
    assert found.errors is not None
    assert [layer.module for layer in found.errors.layers] == ["0", "2"]


def test_an_adaptive_phase_is_not_taken_for_the_border() -> None:
    with pytest.warns(bl.ApproximatePhaseWarning):
        model = bl.convert(network(), "zero", phase="adaptive")
    found = bl.audit(model, images())
    assert found.errors is not None
    # The first convolution pads with what is there anyway.
    assert found.errors.layers[0].leak_px() == 0


def test_names_of_others_are_not_taken_for_tags(tmp_path: Any) -> None:
    found = dataclasses.replace(bl.audit(network(), images(), name="a<b>c"), skipped=("<i>.png: <torn",))
    text = found.save(tmp_path).read_text()
    assert "a‹b›c" in text
    assert "‹i›.png: ‹torn" in text


def test_data_sets_are_read_batch_by_batch() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    one = bl.audit(network(), images(), labels, batch_size=3).to_dict()
    other = bl.audit(network(), TensorDataset(images(), labels), batch_size=3).to_dict()
    for record in (one, other):
        del record["duration_s"]
    assert one == other


def test_photographs_lead_unless_nothing_changes_on_the_empty_canvas() -> None:
    found = bl.audit(network(), images(), parts=["sensitivity"])
    assert found.on_photograph is not None and found.sensitivity is not None
    assert min(found.on_photograph.change, found.sensitivity.all_positions.change) > 0.01
    assert headline(found) == (found.on_photograph, "on photographs")
    model = bl.convert(network(), "infinite", phase="adaptive")
    unchanged = bl.audit(model, images(), parts=["sensitivity"])
    assert unchanged.on_photograph is not None and unchanged.sensitivity is not None
    # An object covers another part of the photograph at each position.
    assert unchanged.on_photograph.change > 0.01 > 1e-5 > unchanged.sensitivity.all_positions.change
    assert headline(unchanged) == (unchanged.sensitivity.all_positions, "on an empty canvas")


@pytest.mark.parametrize(
    ("kept", "accuracy", "level"),
    [(0.85, None, "warning"), (0.95, None, "info"), (0.85, Accuracy(0.9, 0.8, 1.0), "info")],
)
def test_few_kept_predictions_are_a_warning_and_an_accuracy_is_not_their_share(
    kept: float, accuracy: Accuracy | None, level: str
) -> None:
    found = bl.audit(network(), images(), parts=["layout"])
    points = (ReachPoint(0, 1.0, 0.1, 1.0), ReachPoint(None, 1.3, 0.0, kept))
    told = dataclasses.replace(found, accuracy=accuracy, results=found.results | {"reach": points})
    finding = named(judge(told))["cost"]
    assert finding.level == level
    assert (f"has an accuracy of {100 * kept:.0f} %" in finding.text) is (accuracy is not None)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((24, 24), "Sizes near this one without uneven padding: 25, 21, 29 px."),
        ((25, 25), "Images of 25 × 25 px have no uneven padding."),
        ((25, 24), "Sizes near this one without uneven padding: 25, 21, 29 px."),  # squares, so not its own
    ],
)
def test_an_even_size_is_not_among_the_sizes_near_it(size: tuple[int, int], sentence: str, tmp_path: Any) -> None:
    found = bl.audit(network(), images(side=25)[:, :, : size[0], : size[1]], parts=["layout"])
    section = layout.section(found, tmp_path)
    assert section is not None and section.text[1].endswith(f"(Alsallakh et al., 2021). {sentence}")


def test_few_images_leave_out_what_needs_more() -> None:
    found = bl.audit(network(), images(2))
    assert list(found.missing) == ["decodability"]
    assert found.missing["decodability"].startswith("Needs at least 6 images (--count 6)")
    skipped = [finding.text for finding in judge(found) if finding.name == "not-measured"]
    assert skipped == ["Skipped: decodability. Needs at least 6 images (--count 6) but got 2."]
