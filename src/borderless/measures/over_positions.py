"""Accuracy and outputs of the same objects at many positions: over all, at the worst, on whole strides, and changes.

Shapes: predictions (positions, objects), with labels (objects,); logits (positions, classes); positions (positions, 2).
Accuracies are in [0, 1].
"""

import math

from torch import Tensor


def accuracy_on_grid(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Return accuracies over a square grid of positions, row by row, and the share of predictions that change.

    They change where they differ from the same object's in the middle. "left" is the first two columns of positions,
    "right" all others.
    """
    right = (predictions == labels).double()
    across = math.isqrt(len(predictions))
    at = right.mean(1).reshape(across, across)
    inside = at[1:-1, 1:-1]
    edge = (at.sum() - inside.sum()) / (at.numel() - inside.numel())
    return {
        "accuracy": float(at.mean()),
        "worst": float(at.min()),
        "everywhere": float(right.min(0).values.mean()),
        "edge": float(edge),
        "inside": float(inside.mean()),
        "left": float(at[:, :2].mean()),
        "right": float(at[:, 2:].mean()),
        "changed": float((predictions != predictions[len(predictions) // 2]).double().mean()),
    }


def accuracy_by_stride(
    predictions: Tensor, labels: Tensor, positions: Tensor, stride_px: int, trained_at: tuple[int, int]
) -> dict[str, float | int]:
    """Return accuracies over positions, on multiples of a stride and off them, and how many predictions change.

    Args:
        predictions: At every position.
        labels: Of the objects.
        positions: In the order of the predictions.
        stride_px: Total stride of the network.
        trained_at: The position of training, with whose predictions all others are compared.
    """
    at_position = (predictions == labels).double().mean(1)
    on_stride = (positions % stride_px == 0).all(1)
    start = int((positions == positions.new_tensor(trained_at)).all(1).nonzero())
    return {
        "accuracy_where_trained": at_position[start].item(),
        "accuracy_mean": at_position.mean().item(),
        "accuracy_min": at_position.min().item(),
        "accuracy_max": at_position.max().item(),
        "accuracy_on_stride": at_position[on_stride].mean().item(),
        "accuracy_off_stride": at_position[~on_stride].mean().item(),
        "changed_predictions": int((predictions != predictions[start]).sum()),
        "predictions": predictions.numel(),
    }


def changes_of_logits(
    logits: Tensor, positions: Tensor, reference: int, stride_px: int
) -> dict[str, float | int | None]:
    """Return how much the outputs for one object differ between positions.

    Changes are the largest difference of a logit from those at the reference position, relative to the largest of
    these: over positions that are whole strides away, and over all others (None if there is no such position).
    """
    change = (logits - logits[reference]).abs().amax(1) / logits[reference].abs().max()
    whole = ((positions - positions[reference]) % stride_px == 0).all(1)
    return {
        "distinct_predictions": int(logits.argmax(1).bincount().count_nonzero()),
        "change_whole_strides": change[whole].max().item(),
        "change_between": change[~whole].max().item() if bool((~whole).any()) else None,
    }
