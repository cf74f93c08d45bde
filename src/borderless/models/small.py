"""The network of `one-place`: what it is made of, what it is shown, and what it says at every place.

Shapes: digits n × 14 × 14; images n × 1 × 32 × 32; predictions (place, digit).
"""

import torch
from torch import Tensor, nn

from borderless.data.digits import Digits, all_places, place_digits
from borderless.data.items import item_seed
from borderless.runtime.evaluation import seeded

STRIDE_PX = 4
TRAINED_AT = (0, 0)
IMAGES_AT_ONCE = 360


def network(seed: int, channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Four convolutions with BatchNorm, strides 2, 2, 1, 1, global average: about 24,000 parameters."""
    layers: list[nn.Module] = []
    inputs = channels
    with seeded(seed):
        for outputs, kernel, stride in ((16, 5, 2), (32, 3, 2), (32, 3, 1), (32, 3, 1)):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class PlacedDigits:
    """Items (image, label): digits at the training place, or `everywhere`: in each epoch at another place."""

    def __init__(self, digits: Digits, seed: int, everywhere: bool) -> None:
        self.digits, self.seed, self.everywhere = digits, seed, everywhere
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        digit, label = self.digits.images[index, None], self.digits.labels[index]
        return place_digits(digit, self._place(index))[0], label

    def _place(self, index: int) -> Tensor | tuple[int, int]:
        if not self.everywhere:
            return TRAINED_AT
        places = all_places()
        draw = torch.Generator().manual_seed(item_seed(self.seed, self.epoch, index))
        return places[torch.randint(len(places), (), generator=draw)]


@torch.inference_mode()
def predict_everywhere(model: nn.Module, images: Tensor) -> Tensor:
    """The predicted class of every digit at every place: (places, digits)."""
    places = all_places()
    pairs = torch.cartesian_prod(torch.arange(len(places)), torch.arange(len(images)))
    found = [
        model(place_digits(images[digit], places[place])).argmax(1)
        for place, digit in (batch.unbind(1) for batch in pairs.split(IMAGES_AT_ONCE))
    ]
    return torch.cat(found).reshape(len(places), len(images))


def summarise(predictions: Tensor, labels: Tensor) -> dict[str, float | int]:
    """What a map of predictions (places, digits) says, with accuracies in [0, 1]."""
    places = all_places()
    at_place = (predictions == labels).double().mean(1)
    on_stride = (places % STRIDE_PX == 0).all(1)
    start = int((places == torch.tensor(TRAINED_AT)).all(1).nonzero())
    return {
        "accuracy_where_trained": at_place[start].item(),
        "accuracy_mean": at_place.mean().item(),
        "accuracy_min": at_place.min().item(),
        "accuracy_max": at_place.max().item(),
        "accuracy_on_stride": at_place[on_stride].mean().item(),
        "accuracy_off_stride": at_place[~on_stride].mean().item(),
        "changed_predictions": int((predictions != predictions[start]).sum()),
        "predictions": predictions.numel(),
    }
