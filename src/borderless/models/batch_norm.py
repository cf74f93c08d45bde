"""BatchNorm of networks that are only evaluated: statistics from given images, and folding into convolutions."""

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils.data import DataLoader, Dataset

from borderless.engine.torch_internals import AnyBatchNorm

Kind = TypeVar("Kind", bound=nn.Module)


def calibrate_(model: nn.Module, images: Dataset[tuple[torch.Tensor, int]], batch_size: int = 16) -> None:
    """Replace the statistics of every BatchNorm by the means over `images`; random ones do not normalize."""
    norms = [module for module in model.modules() if isinstance(module, AnyBatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        for batch, _ in DataLoader(images, batch_size):
            model(batch)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def folded(model: nn.Module) -> nn.Module:
    """Return the same function in eval mode, with each BatchNorm that follows a convolution inside of it.

    A network that torch.fx cannot trace comes back as it is: it is slower, and its outputs are the same.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(model).eval())
    except (TraceError, TypeError, NotImplementedError):
        return model
    modules: dict[str, Any] = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")

    def called(node: object, kinds: tuple[type[Kind], ...]) -> Kind | None:
        """Return the module that `node` calls, if it is one of `kinds` (not a subclass) and called only here."""
        if not isinstance(node, fx.Node) or node.op != "call_module" or calls[node.target] != 1:
            return None
        module = modules[str(node.target)]
        return module if type(module) in kinds else None

    for node in list(traced.graph.nodes):
        norm = called(node, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
        convolution = called(node.args[0], (nn.Conv1d, nn.Conv2d, nn.Conv3d)) if norm is not None else None
        if norm is None or convolution is None or len(node.args[0].users) > 1 or norm.running_mean is None:
            continue
        traced.set_submodule(node.args[0].target, fuse_conv_bn_eval(convolution, norm))
        node.replace_all_uses_with(node.args[0])
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()
