"""Rows of pictures, curves and bars that a tab shows: as HTML in the colors of the page, and as a picture to save.

Text is HTML, so that it stays legible on a phone and in the dark; pixels are small PNGs that the browser enlarges.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from borderless.report import plots

PANEL_PX, _GAP_PX, _TITLE_PX, _LINE_PX = 240, 20, 26, 18
_PAPER, _INK, _SOFT, _MARK = "white", plots.INK, plots.GRAY, "#e0541b"
# Of one cell of a feature map, so that the outline of the frame is thinner than a cell.
_CELL_PX = 6
_NOT_KEPT = (128, 128, 128)


@dataclass(frozen=True)
class Picture:
    """A picture with a title above and a note below.

    Attributes:
        title: Above the picture.
        image: The picture.
        alt: What is seen, for those who cannot see it.
        note: Below the picture.
        is_clickable: Whether a click into it is an event of the page.
    """

    title: str
    image: Image.Image
    alt: str
    note: str = ""
    is_clickable: bool = False

    def html(self) -> str:
        """Return the figure."""
        return (
            f"<figure><figcaption>{html.escape(self.title)}</figcaption>"
            f'<img class="{"scene" if self.is_clickable else ""}" src="{data_address(self.image)}" '
            f'alt="{html.escape(self.alt)}">'
            f'<p class="note">{html.escape(self.note)}</p></figure>'
        )

    def paint(self, paper: Image.Image, left: int, top: int) -> None:
        """Draw it on a picture to save."""
        grown = self.image.resize((PANEL_PX, PANEL_PX), Image.Resampling.NEAREST)
        paper.paste(grown, (left, top + _TITLE_PX))
        draw = ImageDraw.Draw(paper)
        draw.text((left, top), self.title, _INK, _font(14))
        draw.text((left, top + _TITLE_PX + PANEL_PX + 4), self.note, _SOFT, _font(12))


@dataclass(frozen=True)
class Lines:
    """Lines over steps 0, 1, …, by name, with a mark at the step that is shown."""

    title: str
    lines: dict[str, Sequence[float]]
    at: int
    note: str = ""

    def _points(self, width: float, height: float) -> dict[str, list[tuple[float, float]]]:
        top = max(max(values) for values in self.lines.values()) or 1.0
        steps = max(max(len(values) for values in self.lines.values()) - 1, 1)
        return {
            name: [(width * i / steps, height * (1 - value / top)) for i, value in enumerate(values)]
            for name, values in self.lines.items()
        }

    def html(self) -> str:
        """Return the figure, whose text has the page's color."""
        lines = []
        for name, points in self._points(100, 92).items():
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            x, y = points[min(self.at, len(points) - 1)]
            color = _line_color(name)
            lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.4"/>')
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{color}"/>')
        names = " ".join(
            f'<span><i style="background:{_line_color(name)}"></i>{html.escape(name)}</span>' for name in self.lines
        )
        return (
            f'<figure><figcaption>{html.escape(self.title)}</figcaption><svg viewBox="-3 -4 106 100" role="img" '
            f'aria-label="{html.escape(self.title)}"><path d="M0 0V92H100" fill="none" stroke="currentColor" '
            f'stroke-width=".6" opacity=".5"/>{"".join(lines)}</svg><p class="note legend">{names}</p></figure>'
        )

    def paint(self, paper: Image.Image, left: int, top: int) -> None:
        """Draw it on a picture to save."""
        draw = ImageDraw.Draw(paper)
        draw.text((left, top), self.title, _INK, _font(14))
        top += _TITLE_PX
        draw.line([(left, top), (left, top + PANEL_PX), (left + PANEL_PX, top + PANEL_PX)], _SOFT, 1)
        for i, (name, points) in enumerate(self._points(PANEL_PX, PANEL_PX - 8).items()):
            drawn = [(left + x, top + 8 + y) for x, y in points]
            draw.line(drawn, _line_color(name), 2)
            x, y = drawn[min(self.at, len(drawn) - 1)]
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), _line_color(name))
            draw.text((left + 90 * i, top + PANEL_PX + 4), name, _line_color(name), _font(12))


@dataclass(frozen=True)
class Bars:
    """Shares in [0, 1] by name, the largest first."""

    title: str
    shares: Sequence[tuple[str, float]]
    note: str = ""

    def html(self) -> str:
        """Return the figure."""
        bars = "".join(
            f'<div class="bar"><b style="width:{100 * share:.1f}%"></b><span>{html.escape(name)}</span>'
            f"<em>{100 * share:.0f} %</em></div>"
            for name, share in self.shares
        )
        return (
            f'<figure><figcaption>{html.escape(self.title)}</figcaption><div class="bars">{bars}</div>'
            f'<p class="note">{html.escape(self.note)}</p></figure>'
        )

    def paint(self, paper: Image.Image, left: int, top: int) -> None:
        """Draw it on a picture to save."""
        draw = ImageDraw.Draw(paper)
        draw.text((left, top), self.title, _INK, _font(14))
        for i, (name, share) in enumerate(self.shares):
            y = top + _TITLE_PX + 44 * i
            draw.rectangle((left, y, left + PANEL_PX, y + 34), "#eeece5")
            draw.rectangle((left, y, left + round(PANEL_PX * share), y + 34), "#9fd3bd")
            draw.text((left + 8, y + 9), f"{100 * share:.0f} %  {name}", _INK, _font(13))
        draw.text((left, top + _TITLE_PX + PANEL_PX + 4), self.note, _SOFT, _font(12))


Panel = Picture | Lines | Bars


@dataclass(frozen=True)
class Row:
    """Panels side by side under a heading."""

    panels: Sequence[Panel]
    heading: str = ""


@dataclass(frozen=True)
class Shown:
    """The contents of a tab: one sentence that says what is seen, and rows of panels."""

    sentence: str
    rows: Sequence[Row]
    level: Literal["bad", "good", "plain"] = "plain"

    def html(self) -> str:
        """Return it for the page."""
        rows = "".join(
            f"{f'<h3>{html.escape(row.heading)}</h3>' if row.heading else ''}"
            f'<div class="panels" style="--n:{len(row.panels)}">{"".join(panel.html() for panel in row.panels)}</div>'
            for row in self.rows
        )
        return f'<p class="sentence {self.level}" role="status">{html.escape(self.sentence)}</p>{rows}'

    def picture(self) -> Image.Image:
        """Return it as one picture, dark on white."""
        columns = max(len(row.panels) for row in self.rows)
        row_px = _TITLE_PX + PANEL_PX + _LINE_PX + _GAP_PX
        width = columns * (PANEL_PX + _GAP_PX) + _GAP_PX
        heights = [row_px + (_TITLE_PX if row.heading else 0) for row in self.rows]
        lines = _wrapped(self.sentence, width - 2 * _GAP_PX)
        top = _GAP_PX + 22 * len(lines) + 10
        paper = Image.new("RGB", (width, top + sum(heights)), _PAPER)
        draw = ImageDraw.Draw(paper)
        draw.text((_GAP_PX, _GAP_PX), "\n".join(lines), _INK, _font(16))
        for row, height in zip(self.rows, heights, strict=True):
            if row.heading:
                draw.text((_GAP_PX, top), row.heading, _MARK, _font(15))
            for i, panel in enumerate(row.panels):
                at = top + (_TITLE_PX if row.heading else 0)
                panel.paint(paper, _GAP_PX + i * (PANEL_PX + _GAP_PX), at)
            top += height
        return paper


def feature_map(
    values: np.ndarray,
    show: tuple[int, int, int, int],
    *,
    start: tuple[int, int] = (0, 0),
    frame: tuple[int, int] | None = None,
    low: float,
    high: float,
    colors: str = plots.INTENSITY,
) -> Image.Image:
    """Return a map (rows × columns) as a picture of the part `show` (top, left, bottom, right) of the plane.

    Args:
        values: The map; NaN where there is nothing.
        show: In frame coordinates.
        start: Frame index (row, column) of the first value.
        frame: Height and width of the frame, whose outline is dashed.
        low: The value of the first color.
        high: The value of the last color.
        colors: One of Matplotlib's.
    """
    top, left, bottom, right = show
    plane = np.full((bottom - top, right - left), np.nan)
    rows = slice(max(start[0], top), min(start[0] + values.shape[0], bottom))
    columns = slice(max(start[1], left), min(start[1] + values.shape[1], right))
    plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = values[
        rows.start - start[0] : rows.stop - start[0], columns.start - start[1] : columns.stop - start[1]
    ]
    scaled = np.clip((plane - low) / (high - low if high > low else 1.0), 0, 1)
    pixels = (255 * matplotlib.colormaps[colors](np.nan_to_num(scaled))[:, :, :3]).astype(np.uint8)
    pixels[np.isnan(plane)] = _NOT_KEPT
    image = Image.fromarray(pixels).resize((_CELL_PX * plane.shape[1], _CELL_PX * plane.shape[0]), 0)
    if frame is not None:
        at = (-left * _CELL_PX, -top * _CELL_PX)
        _dash(image, (at[0], at[1], at[0] + frame[1] * _CELL_PX - 1, at[1] + frame[0] * _CELL_PX - 1))
    return image


def _dash(image: Image.Image, box: tuple[int, int, int, int], dash_px: int = 8) -> None:
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    for x in range(left, right, 2 * dash_px):
        for y in (top, bottom):
            draw.line([(x, y), (min(x + dash_px, right), y)], _MARK, 2)
    for y in range(top, bottom, 2 * dash_px):
        for x in (left, right):
            draw.line([(x, y), (x, min(y + dash_px, bottom))], _MARK, 2)


def data_address(image: Image.Image, file_format: str = "PNG") -> str:
    """Return a picture as a data: address."""
    data = io.BytesIO()
    image.save(data, file_format)
    return _address(data, file_format)


def animation_address(frames: Sequence[Image.Image], frame_ms: int = 250, last_ms: int = 2000) -> str:
    """Return pictures as a GIF that repeats, as a data: address."""
    data = io.BytesIO()
    palette = frames[-1].quantize(256, dither=Image.Dither.NONE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    times = [frame_ms] * len(others) + [last_ms]
    first.save(data, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return _address(data, "GIF")


def _address(data: io.BytesIO, file_format: str) -> str:
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _line_color(name: str) -> str:
    return plots.BORDER_COLORS.get(name, _MARK)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(16).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
