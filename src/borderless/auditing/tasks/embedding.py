"""An embedding per image: (N, D); a change is a cosine distance, relative to the mean distance between two images."""

from typing import Any

from torch import Tensor

from borderless.auditing.tasks import Words, as_a_whole, as_it_is
from borderless.errors import ImageError
from borderless.measures.comparisons import Directions, OutputComparison, cosine_distance

NAME = "embedding"
WORDS = Words(
    changes="the embedding moves by {} of the mean cosine distance between images",
    cases="the embedding of the same object moves by {} of the mean cosine distance between images",
    label="of the mean cosine distance between images is how far the embedding moves with the position",
    column="cosine distance, % of that between images",
    none="the embedding does not",
    numbers="embeddings",
    kept="moves its embeddings by {changed} of the mean cosine distance between images",
    kept_axis="100 % without the distance moved, % of that between images",
)
SKIPS = ("margin", "shifts")
ANNOTATIONS = ""
LEAST = 0.05
HAS_LABELS = False
adapter, body = as_it_is, as_a_whole


def fits(output: Any, images: Tensor, _: bool) -> bool:
    """Return whether the output is (N, D), perhaps with further axes of one cell."""
    return (
        isinstance(output, Tensor)
        and output.ndim >= 2
        and len(output) == len(images)
        and output.shape[2:].numel() == 1
        and output.is_floating_point()
    )


def summary(outputs: Tensor) -> Tensor:
    """Return the embeddings (N, D)."""
    return outputs.double().flatten(1)


def comparison(summaries: Tensor) -> OutputComparison:
    """Return the comparison relative to the mean distance between images.

    Raises:
        ImageError: All images have the same embedding.
    """
    vectors = summaries.numpy()
    distances = cosine_distance(vectors[:, None], vectors[None])
    between = distances.sum() / max(len(vectors) * (len(vectors) - 1), 1)
    if between <= 0:
        raise ImageError(
            f"Expected images with different embeddings, whose distance changes are relative to, but got "
            f"{len(vectors)} with the same embedding; give more images."
        )
    return Directions(float(between))
