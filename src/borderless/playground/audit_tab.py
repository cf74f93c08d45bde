"""The audit tab: an audit of a network on a visitor's images, and its report in the page."""

import base64
import copy
import html
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from borderless.data.pictures import PHOTOGRAPHS, opened, photograph, shown
from borderless.errors import DataError
from borderless.playground.audits import audited
from borderless.playground.networks import NetworkChoice, Prepared, prepare

NAME, TITLE = "audit", "Audit"
MOST_IMAGES = 32
_THUMBNAIL_PX = 96
LEAD = (
    f"Does a network use absolute position on your images? Choose up to {MOST_IMAGES} images, or none to take the "
    "photographs of the scikit-image package. An audit takes minutes; its report appears below. Images stay on the "
    "machine that runs the playground and are deleted after an hour, and when the playground ends."
)


def read(paths: Sequence[str | Path], size_px: int, network: Prepared) -> tuple[Tensor, list[str]]:
    """Return images (N, 3, size, size) as the network takes them, and what was wrong with the other files.

    Args:
        paths: The files; without any, the photographs of scikit-image are taken.
        size_px: Height and width.
        network: Whose mean and deviation normalize the images.

    Raises:
        DataError: There are too many files, or none can be read.
    """
    if len(paths) > MOST_IMAGES:
        raise DataError(f"Expected at most {MOST_IMAGES} images but got {len(paths)} files. Choose fewer.")
    mean, deviation = (values.flatten().tolist() for values in (network.mean, network.deviation))
    if not paths:
        return torch.stack([shown(photograph(name), size_px, mean, deviation) for name in PHOTOGRAPHS]), []
    images, problems = [], []
    for path in map(Path, paths):
        try:
            images.append(shown(opened(path)[0], size_px, mean, deviation))
        except DataError as error:
            problems.append(f"{path.name}: {error}")
    if not images:
        raise DataError(f"Expected an image that can be read but got {'; '.join(problems)}. Choose another file.")
    return torch.stack(images), problems


def thumbnails(paths: Sequence[str | Path] | None) -> str:
    """Return small pictures of the files as HTML; a file that cannot be read is named with the reason."""
    figures = []
    for path in map(Path, (paths or [])[:MOST_IMAGES]):
        name = html.escape(path.name)
        try:
            image = opened(path)[0]
            image.thumbnail((2 * _THUMBNAIL_PX, 2 * _THUMBNAIL_PX))
            figures.append(f'<figure><img src="{_jpeg(image)}" alt="{name}"><p class="note">{name}</p></figure>')
        except DataError as error:
            reason = html.escape(str(error).replace(str(path), path.name))
            figures.append(f'<figure class="unreadable"><p class="note"><b>{name}</b>: {reason}</p></figure>')
    if len(paths or []) > MOST_IMAGES:
        figures.append(f'<p class="note">and {len(paths or []) - MOST_IMAGES} more, which are too many</p>')
    return f'<div class="thumbnails">{"".join(figures)}</div>' if figures else ""


def _jpeg(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def run(paths: Sequence[str | Path] | None, name: str, weights: str, size_px: float) -> Iterator[tuple[str, str]]:
    """Audit, and yield what is being done and the report as HTML, which is empty until the end."""
    yield "preparing the network", ""
    network = prepare(NetworkChoice(name.strip(), weights))
    images, problems = read(paths or [], int(size_px), network)
    left_out = f"; left out: {'; '.join(problems)}" if problems else ""
    with network.lock:
        model = copy.deepcopy(network.model)
    for done, of, part, found in audited(model, images, name.strip()):
        if found is None:
            yield f"{done / of:.0%} done; now: {part}{left_out}", ""
        else:
            yield f"done: {len(images)} images{left_out}", framed(_page(found))


def _page(found: Any) -> str:
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRADIO_TEMP_DIR")) as folder:
        return found.save(folder).read_text(encoding="utf-8")


def framed(page: str) -> str:
    """Return a page inside a frame that runs no script and reaches nothing around it."""
    return (
        f'<iframe class="report" sandbox="allow-popups" title="the report of the audit" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def code(name: str, weights: str, size_px: float) -> str:
    """Return a program that runs the same audit on the photographs of scikit-image."""
    given = None if weights == "random" else weights
    seeded = "import torch\n\n" if weights == "random" else ""
    draw = "torch.manual_seed(0)\n" if weights == "random" else ""
    return f"""\
{seeded}import borderless as bl
from borderless.data.pictures import photographs
from borderless.models.preprocessing import normalization

{draw}model = bl.models.load({name.strip()!r}, {given!r})
mean, deviation = normalization({name.strip()!r}, {weights!r})
images = photographs({int(size_px)}, mean=mean, deviation=deviation)  # or from_folder(...) of the same module
found = bl.audit(model, images, name={name.strip()!r})
print(found)
found.save("runs/audit")
"""
