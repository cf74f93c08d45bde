"""The network of `one-place`: what it is made of, how it learns, and what it says at every place.

Shapes: digits n × 14 × 14; images n × 1 × 32 × 32; predictions (place, digit).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.data.digits import Digits, all_places, place_digits
from borderless.modes import one_thread

STRIDE_PX = 4
TRAINED_AT = (0, 0)
IMAGES_AT_ONCE = 360


def network(seed: int, channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Four convolutions with BatchNorm, strides 2, 2, 1, 1, global average: about 24,000 parameters."""
    layers: list[nn.Module] = []
    inputs = channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for outputs, kernel, stride in ((16, 5, 2), (32, 3, 2), (32, 3, 1), (32, 3, 1)):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def train(
    model: nn.Module, digits: Digits, *, epochs: int, batch_size: int, learning_rate: float, seed: int, everywhere: bool
) -> None:
    """Cross-entropy, AdamW, one cycle. Leaves `model` in eval mode."""
    order, where = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    places = all_places()
    steps_an_epoch = -(-len(digits) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps_an_epoch)
    model.train()
    with one_thread():
        for _ in range(epochs):
            for batch in torch.randperm(len(digits), generator=order).split(batch_size):
                drawn = torch.randint(len(places), (len(batch),), generator=where)
                images = place_digits(digits.images[batch], places[drawn] if everywhere else TRAINED_AT)
                optimizer.zero_grad()
                F.cross_entropy(model(images), digits.labels[batch]).backward()
                optimizer.step()
                schedule.step()
    model.eval()


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


@torch.inference_mode()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """Accuracy at the training place, in [0, 1]."""
    return (model(place_digits(digits.images, TRAINED_AT)).argmax(1) == digits.labels).float().mean().item()


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
