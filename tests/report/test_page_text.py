"""Texts of a page: filled in, unwrapped, and handed out by the name of the figure or table."""

from pathlib import Path

import jinja2
import pytest

from borderless.report import Figure, Section, Table
from borderless.report.page_text import filled_in

TEMPLATE = """\
# Squares of {{ count }}

One paragraph,
in two lines: {{ [0.25, 0.75]|percent }} %.

{% if count > 9 %}
Many.
{% endif %}

{% for name in names %}
## figure {{ name }}

Caption of {{ name }}.

What {{ name }} shows: {{ 1.26|form(".1f") }}, {{ [1, 2]|mean }}.

{% endfor %}
## table all

{{ louder("numbers") }} {{ "more"|louder }}
{% if count > 9 %}

## result

It is {{ count }}.
{% endif %}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.j2"
    path.write_text(TEMPLATE)
    return path


def test_each_part_is_found_by_its_name(template: Path) -> None:
    text = filled_in(template, {"count": 3, "names": ["one", "two"]}, {"louder": str.upper})
    figures = [text.figure(name, Path(f"{name}.png")) for name in ("one", "two")]
    assert figures[1] == Figure(Path("two.png"), "Caption of two.", "What two shows: 1.3, 1.5.")
    table = text.table("all", ["n"], [[1]])
    assert table == Table(["n"], [[1]], "NUMBERS MORE")
    assert text.section(figures, [table]) == Section(
        "Squares of 3", ["One paragraph, in two lines: 50.0 %."], figures, [table]
    )
    many = filled_in(template, {"count": 10, "names": []}, {"louder": str.upper})
    assert many.paragraphs[1] == "Many."
    assert many.section([], []).result == "It is 10."


def test_a_number_that_is_missing_is_named(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'names' is undefined"):
        filled_in(template, {"count": 3}, {"louder": str.upper})
