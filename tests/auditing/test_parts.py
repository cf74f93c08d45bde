"""The parts of an audit: a file more is a part more; some are selected; whose fault it is when one fails."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.auditing import parts
from borderless.auditing.comparison import write_comparison
from borderless.auditing.decoding import Decodability
from borderless.auditing.parts import decodability
from borderless.auditing.record import read
from borderless.auditing.verdict import judge
from borderless.engine.signal import Signal
from borderless.errors import UnknownName
from borderless.measures.location_probe import Probe, ProbeScore
from borderless.measures.position_readout import ReadOut
from support.planted import network

BRIGHTNESS = '''
"""How bright the images are."""

from borderless.auditing.result import Finding
from borderless.report.content import Section

NAME, NEEDS, STEPS = "brightness", ("layout",), {"brightness": 1.0}
COMPARED = (("brightness of the images", 1, ("mean",)),)


def measure(subject):
    return {"brightness": subject.step("brightness", lambda _: float(subject.first.mean()))}


def findings(audit):
    mean = audit.results["brightness"]
    text = f"The images have the mean {mean:.3f}."
    return [Finding("brightness", "warning", text, {"mean": mean})]


def section(audit, folder):
    return Section("Brightness", ["How bright the images are."])


def record(audit):
    return {"mean": audit.results.get("brightness")}
'''


def images(count: int = 8, side: int = 24) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def brightness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file more among the parts; its name."""
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "brightness.py").write_text(BRIGHTNESS)
    monkeypatch.setattr(parts, "__path__", [*parts.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "borderless.auditing.parts.brightness", raising=False)
    return "brightness"


def test_a_file_is_a_part(brightness: str, tmp_path: Path) -> None:
    mean = float(images().mean())
    steps: list[str] = []
    found = bl.audit(network(), images(), parts=[brightness], progress=lambda done, of, step: steps.append(step))
    # Selected, with what it needs, and measured after that.
    assert list(parts.discover())[-1] == brightness
    assert [step for step in dict.fromkeys(steps) if "(" not in step] == ["layout", "influence", "brightness", ""]
    assert found.results["brightness"] == mean
    # Judged, after the findings that have a fixed place and before what is missing.
    names = [finding.name for finding in judge(found)]
    assert names == ["verdict", "uneven-padding", "brightness"]  # and nothing of the parts that nobody asked for
    # In the record and on the page.
    page = found.save(tmp_path).read_text()
    assert json.loads((tmp_path / "audit.json").read_text())["brightness"] == {"mean": mean}
    titles = re.findall(r"<h2[^>]*>(?:\d+\. )?(.*)</h2>", page)
    assert titles == ["Verdict", "Stride, receptive field and padding", "Brightness", "How it was measured"]
    assert f"The images have the mean {mean:.3f}." in page


def test_a_part_is_compared_also_with_a_record_that_does_not_have_it(brightness: str, tmp_path: Path) -> None:
    folders = [tmp_path / "new", tmp_path / "old"]
    bl.audit(network(), images(), parts=[brightness]).save(folders[0])
    record = json.loads((folders[0] / "audit.json").read_text())
    del record["brightness"]
    folders[1].mkdir()
    (folders[1] / "audit.json").write_text(json.dumps(record))
    _, (table,) = write_comparison(read(folders[0]), read(folders[1]), tmp_path / "both.html")
    row = next(row for row in table.rows if row[0] == "brightness of the images")
    assert row[1:] == [f"{float(images().mean()):.3g}", "–"]


def test_every_part_says_which_steps_it_takes() -> None:
    told: list[tuple[float, int, str]] = []
    bl.audit(network(), images(), progress=lambda *step: told.append(step))
    every = [(name, step) for name, part in parts.discover().items() for step in part.STEPS]
    assert len({step for _, step in every}) == len(every)
    named = [step for name, step in every if name not in ("margin", "zones")]  # a classifier has neither
    assert {of for _, of, _ in told} == {len(named)}
    assert list(dict.fromkeys(step.split(" (")[0] for _, _, step in told)) == [*named, ""]
    # Within a step too, and never backwards; at the end all is done.
    done = [share for share, _, _ in told]
    assert done == sorted(done)
    assert len({share for share, _, step in told if step.startswith("objects on a canvas")}) > 20
    assert done[-1] == len(named)


def test_parts_are_selected_with_what_they_need_and_the_others_are_named() -> None:
    found = bl.audit(network(), images(), parts=["reach"])
    assert found.reach
    assert found.layout is not None
    assert found.sensitivity is None
    assert found.shifts == {}
    assert list(found.missing) == [
        *("border error", "objects on photographs", "objects on a canvas", "noise, JPEG and one pixel"),
        *("shifts, zhang2019", "shifts, circular", "shifts, canvas", "decodability", "fixes"),
    ]
    assert "not among the parts" in found.missing["objects on a canvas"]
    whole = bl.audit(network(), images())
    assert found.reach == whole.reach
    with pytest.raises(UnknownName, match="Expected an existing part of an audit but got 'raech'; did you mean reach"):
        bl.audit(network(), images(), parts=["raech"])


class Failing(nn.Module):
    """Raises for every size but one."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.inner, self.error = network(), error

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (24, 24):
            raise self.error
        return self.inner(images)


@pytest.mark.parametrize("error", [RuntimeError("no"), ValueError("no"), AttributeError("no"), KeyError("no")])
def test_what_the_model_raises_is_named_and_the_rest_goes_on(error: Exception) -> None:
    found = bl.audit(Failing(error).eval(), images(), parts=["shifts"])
    assert set(found.shifts) == {"circular"}
    for step in ("shifts, zhang2019", "shifts, canvas"):
        assert found.missing[step] == f"{type(error).__name__}: {error}"


def test_a_fault_of_a_rule_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Signal, "derive")
    with pytest.raises(AttributeError, match="derive"):
        bl.audit(network(), images(), parts=["layout"])


def test_a_fault_of_a_measure_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("borderless.measures.border_effect.intersection")
    with pytest.raises(NameError, match="intersection"):
        bl.audit(network(), images(), parts=["border_error"])


def test_a_model_without_gradients_has_no_blind_spots_to_tell() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images).detach()

    found = bl.audit(Detached().eval(), images(), parts=["layout"])
    assert found.missing["influence"].startswith("Expected a model through which gradients pass but got")
    assert found.layout is not None


def decoded(right: float, untrained: float) -> bl.Audit:
    """An audit in which a probe is right in a share of cases, and random weights have a read-out of their own."""

    def score(accuracy: float) -> ProbeScore:
        return ProbeScore(accuracy, accuracy - 0.05, accuracy + 0.05, accuracy, 1.0, True, np.ones((2, 1), bool))

    def read_out(spearman: float) -> ReadOut:
        return ReadOut(spearman, spearman - 0.05, spearman + 0.05, 0.1, "2")

    probe, chance = Probe(score(right), score(0.5), 0.1), Probe(score(0.5), score(0.5), 0.0)
    found = Decodability("5", 24, {0: probe, 6: chance}, chance, read_out(0.6), read_out(0.1), read_out(untrained))
    audit = bl.audit(network(), images(), parts=["layout"])
    return dataclasses.replace(audit, results=audit.results | {"decodability": found})


@pytest.mark.parametrize(("right", "is_told"), [(0.9, True), (0.55, False)])
def test_position_that_can_be_decoded_is_not_said_to_be_used(right: float, is_told: bool) -> None:
    texts = [finding.text for finding in judge(decoded(right, 0.0)) if finding.name == "decodable"]
    assert len(texts) == is_told
    for text in texts:
        assert text.startswith("A linear layer decodes position from the features (5): 90 % right")
        assert "Decodable does not mean used: the verdict above rests on the network's own predictions." in text


@pytest.mark.parametrize(("untrained", "is_told"), [(0.7, True), (0.5, False)])
def test_random_weights_that_show_position_as_well_are_told(untrained: float, is_told: bool, tmp_path: Path) -> None:
    section = decodability.section(decoded(0.9, untrained), tmp_path)
    assert section is not None
    assert ("random weights shows row and column at least as well" in " ".join(section.text)) is is_told
    assert ("0.70 against 0.60" in " ".join(section.text)) is is_told
