"""The README's Python prints what it says, and its numbers are computed from the committed results."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from docs import quoted_numbers as numbers

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")

# Numbers that are no measurement: (what they are, as an expression).
NAMED = {
    "sizes of arguments": r"memory=\"2GB\"|canvas=\(1144, 1144\)|\(8192, 8192\)|--fail-above 5|reach=2|--reach 1",
    "names": r"ResNet-\d+|BagNet-33|DenseNet-121|EfficientNet-Lite0|resnet50|tf_efficientnet_lite0|\d-Clause",
    "sizes of PyTorch's builds": r"takes 6 GB|CPU build, 1 GB",
    "versions": r"2\.8 and newer",
    "years": r"CVPR 20\d\d",
    "settings of the experiments": r"for 20 epochs|After 5 epochs instead of 20|95 %|\d+ px\b|"
    r"of 10,000 predictions|\(digits, 50\)|\(5\)|\(ImageNet, 50\)",
    "exact by construction": r"as a rule 0 |\| 0 \||\| 1 × \||100 % with `zero`",
}


@pytest.fixture(scope="module")
def computed() -> dict[str, str]:
    return numbers.compute()


def test_the_code_prints_what_follows(capsys: pytest.CaptureFixture[str]) -> None:
    ((code, printed),) = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    exec(compile(code, str(README), "exec"), {})
    pattern = r"\d+\.\d*"
    out = capsys.readouterr().out
    assert re.sub(pattern, "", out) == re.sub(pattern, "", printed)
    # Random weights of another version of torchvision would print others.
    ours, theirs = ([float(number) for number in re.findall(pattern, text)] for text in (out, printed))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("page", numbers.CLAIMS)
def test_numbers_are_those_of_the_results(page: str, computed: dict[str, str]) -> None:
    assert numbers.written(page, computed) == (ROOT / page).read_text(encoding="utf-8"), "python docs/quoted_numbers.py"


def test_a_wrong_number_is_replaced_and_a_missing_sentence_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "ROOT", tmp_path)
    monkeypatch.setattr(numbers, "CLAIMS", {"page.md": ("takes {one}\n times, {other} more.",)})
    (tmp_path / "page.md").write_text("It takes 7 times,\n8 more.", encoding="utf-8")
    assert numbers.written("page.md", {"one": "9", "other": "10"}) == "It takes 9 times,\n10 more."
    (tmp_path / "page.md").write_text("It takes no time.", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected page.md to say once but got it 0 times: takes {one}"):
        numbers.written("page.md", {})


def test_every_number_is_computed_or_named() -> None:
    prose = re.sub(
        r"^```.*?^```|^<picture>.*?</picture>|^## Other software.*?^## ", "", TEXT, flags=re.DOTALL | re.MULTILINE
    )
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    for claim in numbers.CLAIMS["README.md"]:
        pattern, _ = numbers.as_pattern(re.sub(r"\]\([^)]*\)", "]", claim))
        prose, count = pattern.subn("", prose)
        assert count == 1, claim
    for names in NAMED.values():
        prose = re.sub(names, "", prose)
    assert re.findall(r".*\d.*", prose) == []


def test_the_first_screen_says_for_whom_at_what_cost_and_that_the_cpu_build_is_enough() -> None:
    first = TEXT.split("\n## ")[0]
    for words in ("\n\n**For** ", "\n\n**What it costs.** ", "For the CPU build, "):
        assert words in first
    for heading in ("\n## Costs and limits\n", "\n## Other software\n"):
        assert heading in TEXT


def test_pictures_are_there_and_small() -> None:
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"|!\[[^\]]+\]\(([^)]+)\)', TEXT)
    assert len(pictures) >= 2
    for picture in map("".join, pictures):
        assert (ROOT / picture).stat().st_size <= 1.5e6, picture
    assert 'alt="' in TEXT


def test_what_is_installed_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    commands = re.findall(r"^\$ pip install (.+?)(?: +#.*)?$", TEXT, re.MULTILINE)
    assert commands == ['".[demo]"', '-e ".[test]"']
    assert {name for command in commands for name in re.findall(r"\[(\w+)\]", command)} <= extras.keys()
