"""Networks and pictures for the engine's tests.

Zero biases and fresh BatchNorm statistics hide the border: an empty map then stays 0 and padding with 0 is right by
luck. `randomised` gives a network biases and statistics as after training, and scales every layer so that its response
is of order 1: neither vanishing nor exploding, so that a relative change of the logits means something.

Shapes: images [N, 3, H, W]; positions and shifts (row, column) in pixels.
"""

import copy
from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SLIDING_OR_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
CLASSES = 10

# The eleven networks that the engine has to carry untouched. Their total stride is 32 but for SqueezeNet's 16.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=CLASSES),
    "resnet50": lambda: torchvision.models.resnet50(num_classes=CLASSES),
    "densenet121": lambda: torchvision.models.densenet121(num_classes=CLASSES),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=CLASSES),
    "efficientnet_b0": lambda: torchvision.models.efficientnet_b0(num_classes=CLASSES),
    "convnext_tiny": lambda: torchvision.models.convnext_tiny(num_classes=CLASSES),
    "regnet_y_400mf": lambda: torchvision.models.regnet_y_400mf(num_classes=CLASSES),
    "shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=CLASSES),
    "googlenet": lambda: torchvision.models.googlenet(num_classes=CLASSES, aux_logits=False, init_weights=False),
    "squeezenet1_1": lambda: torchvision.models.squeezenet1_1(num_classes=CLASSES),
    "mnasnet0_5": lambda: torchvision.models.mnasnet0_5(num_classes=CLASSES),
}
TOTAL_STRIDE = 32


def randomised(model: nn.Module, seed: int, example: Tensor | None = None) -> nn.Module:
    """The same model, in eval mode, with random statistics, biases and scales; every layer's response is of order 1.

    `example` is a float32 input of the model; by default objects on an empty canvas, as the tests show them.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = lambda like, std: torch.randn(like.shape, generator=generator) * std  # noqa: E731
    uniform = lambda like: torch.rand(like.shape, generator=generator) + 0.5  # noqa: E731

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BATCH_NORMS):
                module.running_mean.copy_(normal(module.running_mean, 0.3))
                module.running_var.copy_(uniform(module.running_var))
            if isinstance(module, SLIDING_OR_LINEAR):
                module.weight.copy_(normal(module.weight, 1.0))
            elif isinstance(getattr(module, "weight", None), nn.Parameter):  # normalization layers
                module.weight.copy_(uniform(module.weight))
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                module.bias.copy_(normal(module.bias, 0.3))
            if (
                "layer_scale" in module._parameters
            ):  # ConvNeXt starts its branches at 1e-6: they would count for nothing
                module.layer_scale.copy_(uniform(module.layer_scale))

    def calibrate(module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        spatial_axes = 0 if isinstance(module, nn.Linear) else output.dim() - 2
        bias = 0 if module.bias is None else module.bias.view(-1, *[1] * spatial_axes)
        response = output - bias
        scale = response.square().mean().sqrt()
        module.weight.div_(scale)
        return response / scale + bias

    hooks = [m.register_forward_hook(calibrate) for m in model.modules() if isinstance(m, SLIDING_OR_LINEAR)]
    model.eval()
    with torch.no_grad():
        model(objects_on_a_canvas(seed) if example is None else example)
    for hook in hooks:
        hook.remove()
    return model


def network(name: str, seed: int = 0) -> nn.Module:
    """One of NETWORKS, randomised, in eval mode, float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return randomised(NETWORKS[name](), seed)


def deterministic_training(model: nn.Module) -> nn.Module:
    """The model in training mode with nothing random in it: dropout and stochastic depth at probability 0."""
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d, torchvision.ops.StochasticDepth)):
            module.p = 0.0
        if hasattr(module, "drop_rate"):  # DenseNet's dense layers
            module.drop_rate = 0.0
    return model.train()


def patch(size_px: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A random object [3, size, size]: blocks and noise, drawn in float64 so that both precisions see the same."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    blocks = blocks.repeat_interleave(-(-size_px // 6), 1).repeat_interleave(-(-size_px // 6), 2)[:, :size_px, :size_px]
    return (1.5 * blocks + torch.randn(3, size_px, size_px, generator=generator, dtype=torch.float64)).to(dtype)


def placed(objects: Sequence[Tensor], positions: Sequence[tuple[int, int]], canvas_px: int) -> Tensor:
    """[N, 3, canvas, canvas]: object i on an empty canvas, its upper left corner at position i, wholly inside."""
    images = objects[0].new_zeros(len(objects), objects[0].shape[0], canvas_px, canvas_px)
    for image, thing, (row, column) in zip(images, objects, positions, strict=True):
        height, width = thing.shape[-2:]
        assert 0 <= row <= canvas_px - height and 0 <= column <= canvas_px - width, "the object must stay inside"
        image[:, row : row + height, column : column + width] = thing
    return images


def objects_on_a_canvas(seed: int) -> Tensor:
    """Four objects of 48 pixels at four places of a canvas of 128: [4, 3, 128, 128], float32."""
    objects = [patch(48, 100 * (seed + 1) + i, torch.float32) for i in range(4)]
    return placed(objects, [(0, 0), (80, 40), (40, 80), (20, 30)], 128)


def relative_change(first: Tensor, second: Tensor) -> float:
    """Largest difference, as a part of the largest value of the first."""
    return ((first - second).abs().max() / first.abs().max()).item()


class Residual(nn.Module):
    """The smallest network with all that a border meets: stride, BatchNorm, max pool, residual join, global average."""

    def __init__(self, channels: int = 4, in_channels: int = 3, classes: int = 5):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.MaxPool2d(2, stride=1, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride=2)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(torch.relu(self.norm(self.stem(images))))
        maps = maps + self.branch(maps)
        maps = torch.relu(self.down(maps) + self.shortcut(maps))
        return self.head(nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1))


def residual(seed: int = 0, **sizes: int) -> nn.Module:
    """`Residual`, randomised, in eval mode, float32. Total stride 4."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Residual(**sizes)
        example = objects_on_a_canvas(seed)[:, : model.stem.in_channels, :64, :64]
        return randomised(model, seed, example)


def state(model: nn.Module) -> dict:
    """Everything about a model that a function without a trailing underscore must leave alone."""
    hooks = [
        (name, kind, len(registered))
        for name, module in model.named_modules()
        for kind, registered in sorted(vars(module).items())
        if "hook" in kind and hasattr(registered, "__len__")
    ]
    return {
        "hooks": hooks,
        "modes": [(name, module.training) for name, module in model.named_modules()],
        "types": [(name, type(module), sorted(vars(module))) for name, module in model.named_modules()],
        "gradients": [(name, p.requires_grad, p.grad is None) for name, p in model.named_parameters()],
        "identities": [id(tensor) for tensor in (*model.parameters(), *model.buffers())],
        "values": copy.deepcopy(model.state_dict()),
    }


def assert_same_state(before: dict, after: dict) -> None:
    for key in before.keys() - {"values"}:
        assert before[key] == after[key], f"{key} changed"
    assert list(before["values"]) == list(after["values"])
    for name, value in before["values"].items():
        assert torch.equal(value, after["values"][name]), f"{name} changed"
