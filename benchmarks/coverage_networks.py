"""Which networks the coverage benchmark runs: all CNNs of torchvision, and of each timm family the smallest.

A family is a module of `timm.models`. Its variants are built on the meta device, in order of size, and run once while
every torch function is watched: two activations multiplied with each other are attention, as is a module that is called
so, a parameter with a telling name is a position embedding, and a convolution whose kernel is larger than its stride
mixes neighbors. The smallest variant that mixes neighbors and has neither of the other two stands for its family;
where there is none, the smallest that mixes neighbors at all (a hybrid) does; a family without such a convolution is
not convolutional.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_map
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

CLASSES = 10
CANVASES_PX = (128, 160, 224, 256, 299, 331, 384, 512)
CLIP_CANVASES_PX, CLIP_FRAMES = (64, 112, 224), 16
CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}  # to spatial axes
CONTRACTIONS = {
    nn.functional.scaled_dot_product_attention,
    *(
        getattr(place, name)
        for name in ("matmul", "bmm", "mm", "__matmul__")
        for place in (torch, Tensor)
        if hasattr(place, name)
    ),
    torch.baddbmm,
    torch.einsum,
}
POSITION_EMBEDDING = re.compile(r"pos_?emb|pos_?enc|rel_pos|position|relative|rope", re.IGNORECASE)
# Of torchvision's modules these hold no CNN; detection and optical flow return no map that could be compared.
TORCHVISION_WITHOUT_CNN = (
    "vision_transformer",
    "swin_transformer",
    "maxvit",
    "mvit",
    "quantization",
    "detection",
    "optical_flow",
)
FPN = "resnet18_fpn_backbone"


@dataclass(frozen=True)
class Network:
    """One row of the benchmark. kind: "cnn", or "hybrid" with attention or position embeddings."""

    library: str
    family: str
    name: str
    kind: str
    canvas_px: int
    parameters: int
    reads: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.library}/{self.name}"


def build(library: str, name: str) -> nn.Module:
    """The network with the library's own initial weights; nothing is downloaded."""
    if library == "timm":
        return timm.create_model(name, pretrained=False, num_classes=CLASSES)
    if name == FPN:
        return resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d)
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **_torchvision_options(name))


def _torchvision_options(name: str) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return {"init_weights": False}
    return {"weights_backbone": None} if _torchvision_family(name).startswith("segmentation") else {}


def _torchvision_family(name: str) -> str:
    return torchvision.models.get_model_builder(name).__module__.removeprefix("torchvision.models.")


def torchvision_networks() -> Iterator[Network]:
    """Every classification, segmentation and video CNN, and the FPN backbone."""
    for name in [*torchvision.models.list_models(), FPN]:
        family = "detection" if name == FPN else _torchvision_family(name)
        if name != FPN and any(part in family for part in TORCHVISION_WITHOUT_CNN):
            continue
        model = _outline("torchvision", name)
        is_clip = family.startswith("video")
        canvas_px, seen = _watched(model, CLIP_CANVASES_PX if is_clip else CANVASES_PX, (CLIP_FRAMES,) * is_clip)
        if canvas_px is None:
            raise ValueError(f"{name} takes none of the canvases: {seen}")
        yield Network("torchvision", family, name, "cnn", canvas_px, _count(model))


def timm_network(family: str) -> Network | str:
    """The variant that stands for a family, or why there is none."""
    variants, failed = [], []
    seen = set()
    for name in timm.list_models(module=family, exclude_filters="test_*"):  # of timm's own tests
        try:
            model = _outline("timm", name)
        except Exception as error:  # of another library, and of any kind: it is reported with the family
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
            continue
        signature = (_count(model), sum(1 for _ in model.modules()))
        if signature not in seen and _may_mix_neighbors(model):
            seen.add(signature)
            variants.append((_count(model), name))
    hybrid: Network | None = None
    for parameters, name in sorted(variants):
        model = _outline("timm", name)
        canvas_px, seen_by = _watched(model, {*CANVASES_PX, model.default_cfg["input_size"][1]})
        if canvas_px is None:
            failed.append(f"{name}: {seen_by}")
            continue
        reads = tuple(sorted(seen_by.reads | _position_embeddings(model) | _attention(model)))
        if not seen_by.mixes_neighbors:
            continue
        found = Network("timm", family, name, "hybrid" if reads else "cnn", canvas_px, parameters, reads)
        if not reads:
            return found
        hybrid = hybrid or found
    reason = "no convolution whose kernel is larger than its stride"
    return hybrid or "; ".join([reason, *failed[:3]])


class NoValues(TorchFunctionMode):
    """Skips the drawing of initial weights, which on the meta device costs most of the building."""

    SKIPPED = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_, Tensor.fill_, Tensor.zero_})

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return args[0] if function in self.SKIPPED else function(*args, **(kwargs or {}))


def _outline(library: str, name: str) -> nn.Module:
    """The network in eval mode, without values."""
    try:
        with torch.device("meta"), NoValues():
            return build(library, name).eval()
    except NotImplementedError:  # it computes its widths with tensors, which then need values
        with NoValues():
            return build(library, name).eval().to("meta")


class Watch(TorchFunctionMode):
    """Sees what a forward pass does with what comes from the image."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: set[str] = set()
        self.mixes_neighbors = False

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in CONVOLUTIONS:
            self._convolution(CONVOLUTIONS[function], *args, **kwargs)
        if function in CONTRACTIONS and sum(map(_from_image, (*args, *kwargs.values()))) > 1:
            self.reads.add(f"two activations multiplied ({function.__name__})")
        output = function(*args, **kwargs)
        if tree_any(_from_image, (args, kwargs)):
            tree_map(_mark, output)
        return output

    def _convolution(
        self, axes: int, _image: Tensor, weight: Tensor, _bias: Any = None, stride: Any = 1, *_: Any, **__: Any
    ) -> None:
        strides = (stride,) * axes if isinstance(stride, int) else stride
        self.mixes_neighbors |= any(k > s for k, s in zip(weight.shape[2:], strides, strict=False))


def _from_image(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_from_image, value))
    return isinstance(value, Tensor) and getattr(value, "_from_image", False)


def _mark(value: Any) -> Any:
    if isinstance(value, Tensor):
        value._from_image = True
    return value


def _watched(model: nn.Module, canvases_px: Iterable[int], frames: tuple[int, ...] = ()) -> tuple[int | None, Any]:
    """The smallest canvas that the model takes, and what was seen on it; without one, None and the reason."""
    reason = ""
    for canvas_px in sorted(canvases_px):
        watch = Watch()
        image = torch.empty(2, 3, *frames, canvas_px, canvas_px, device="meta")
        try:
            with torch.no_grad(), watch:
                model(_mark(image))
            return canvas_px, watch
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:100]}"
    return None, reason


def _may_mix_neighbors(model: nn.Module) -> bool:
    """Cheap: whether any kernel is larger than 1."""
    return any(max(m.kernel_size) > 1 for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d))


def _position_embeddings(model: nn.Module) -> set[str]:
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    found = [name for name in names if POSITION_EMBEDDING.search(name)]
    return {f"position embedding ({found[0]})"} if found else set()


def _attention(model: nn.Module) -> set[str]:
    """Attention that multiplies elementwise is known by its name; gates of channels are called otherwise in timm."""
    found = sorted({type(m).__name__ for m in model.modules() if type(m).__name__.endswith("Attention")})
    return {f"attention ({found[0]})"} if found else set()


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
