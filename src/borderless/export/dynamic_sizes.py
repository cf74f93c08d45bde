"""A converted model as one program for images of many sizes: numbers that follow from the size, read off several sizes.

A border computes with sizes as integers, which a program of one size holds as constants. The model is frozen for a few
sizes; a number that differs between the programs is replaced by an expression of the size of the tensor beside it
(size + constant, or size · constant), where one fits all of them. Where none does, the model is refused.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, GraphModule, Node

from borderless.conversion import conversion_of, copied
from borderless.engine.torch_internals import export_error, tree_flatten, tree_unflatten
from borderless.errors import ConversionError
from borderless.export.exported_program import freeze

AXES = ("batch", "height", "width")


def freeze_sizes(model: nn.Module, example: Tensor, dynamic: Sequence[str]) -> tuple[ExportedProgram, int]:
    """Export a converted `model` as a program for images (N, C, H, W) of many sizes.

    Args:
        model: A converted model that takes images alone, in eval mode.
        example: Images; each dynamic dimension holds at least two, and height and width are multiples of the total
            stride.
        dynamic: Names of the dimensions that may change, of "batch", "height" and "width".

    Returns:
        The program, and the number that height and width must be multiples of.

    Raises:
        ConversionError: Numbers in the program follow from the size in a way that cannot be told.
    """
    conversion = conversion_of(model)
    assert conversion is not None
    axes = [{"batch": 0, "height": 2, "width": 3}[name] for name in dynamic]
    step = max(_total_stride(model, example))
    programs = [_program(model, example)]
    base = programs[0]
    programs += [_program(model, _larger(example, axes, amount)) for amount in (step, 2 * step)]
    free = [] if step == 1 else [_program(model, _larger(example, axes, 1))]
    for multiple, others in ((1, [*programs, *free]), (step, programs)):
        try:
            symbolic = _with_sizes(base, [_numbers(one) for one in others], others)
        except _DoesNotFollow as reason:
            if multiple == step:
                raise ConversionError(
                    f"Expected a {type(model).__name__} whose program holds the same operations for every size but got "
                    f"{reason} under {conversion.border!r}; write one file a size with sizes=[(height, width), …], or "
                    "convert to 'zero', 'circular' or 'valid' with phase='fixed'."
                ) from None
            continue
        break
    if any(example.shape[axis] % multiple for axis in axes if axis):
        raise ConversionError(
            f"Expected an example whose dynamic height and width are multiples of the total stride, {multiple}, under "
            f"{conversion.border!r} but got {tuple(example.shape[2:])}; give a larger or smaller one."
        )
    for least in (1, 2, 4, 8, 16, 32):
        shapes = ({axis: _dim(axis, multiple, least) for axis in axes},)
        try:
            with torch.no_grad():
                program = torch.export.export(symbolic, (example,), dynamic_shapes=shapes, strict=False)
            return program, multiple
        except export_error() as error:
            failure = error
    raise ConversionError(
        f"Expected a {type(model).__name__} that takes any size but PyTorch's exporter says: "
        f"{str(failure).splitlines()[0]}; write one file a size with sizes=[(height, width), …]."
    ) from failure


def _dim(axis: int, multiple: int, least: int) -> Any:
    """Return a dynamic dimension; heights and widths of at least `least` times `multiple`."""
    if axis == 0:
        return Dim("batch", min=1)
    name = AXES[axis - 1]
    return Dim(name, min=least) if multiple == 1 else multiple * Dim(f"{name}_in_{multiple}", min=least)


def _larger(example: Tensor, axes: Sequence[int], amount: int) -> Tensor:
    """Return images of another size, all along the dynamic axes; the width grows by twice as much."""
    for axis in axes:
        more = 1 if axis == 0 else amount * (axis - 1)
        example = torch.cat([example, example.narrow(axis, 0, 1).repeat_interleave(more, axis)], axis)
    return example


def _total_stride(model: nn.Module, example: Tensor) -> tuple[int, ...]:
    watched, found = copied(model).eval(), []
    conversion = conversion_of(watched)
    assert conversion is not None

    def observe(event: Any) -> None:
        if event.signal is not None:
            found.append(event.signal.lattice.total_stride)

    conversion.observer = observe
    with torch.no_grad():
        watched(example)
    return tuple(max(each) for each in zip((1, 1), *found, strict=True))


def _program(model: nn.Module, example: Tensor) -> GraphModule:
    """Return the program for one size, without checks of it."""
    module: Any = freeze(model, example).module()
    for node in list(module.graph.nodes):
        if node.op == "call_module" and not node.users and "guards" in str(node.target):
            module.graph.erase_node(node)
    return GraphModule(module, module.graph)  # without the hooks that check sizes


class _DoesNotFollow(Exception):
    """Programs of several sizes differ in more than sizes."""


def _numbers(program: GraphModule) -> list[tuple[Node, list[Any]]]:
    return [(node, tree_flatten((node.args, dict(node.kwargs)))[0]) for node in program.graph.nodes]


def _with_sizes(
    base: GraphModule, others: Sequence[list[tuple[Node, list[Any]]]], programs: Sequence[GraphModule]
) -> GraphModule:
    """Return the program of `base` with expressions of sizes where numbers differ. others: base's too."""
    if any([str(n.target) for n, _ in one] != [str(n.target) for n, _ in others[0]] for one in others):
        raise _DoesNotFollow("other operations at another size")
    for name, value in base.named_buffers():
        if any(not torch.equal(value, dict(one.named_buffers())[name]) for one in programs):
            raise _DoesNotFollow(f"a constant tensor of the size of a feature map ({name})")
    graph, made = Graph(), {}
    graph._codegen = base.graph._codegen
    (image,) = [node for node in base.graph.nodes if node.op == "placeholder"]
    for number, (node, leaves) in enumerate(others[0]):
        same = [one[number] for one in others]
        new = list(leaves)
        for i, leaf in enumerate(leaves):
            values = [each[i] for _, each in same]
            if isinstance(leaf, Node) or all(type(v) is type(leaf) and v == leaf for v in values):
                continue
            if not all(type(v) is int for v in values):
                raise _DoesNotFollow(f"{node.target}, whose numbers {values} are no sizes")
            new[i] = _expression(node, values, [each for each, _ in same], image, graph, made)
        _, structure = tree_flatten((node.args, dict(node.kwargs)))
        args, kwargs = tree_unflatten([made[n] if isinstance(n, Node) and n in made else n for n in new], structure)
        made[node] = graph.create_node(node.op, node.target, args, kwargs, node.name, node.type)
    return GraphModule(base, graph)


def _expression(
    node: Node, values: Sequence[int], same: Sequence[Node], image: Node, graph: Graph, made: dict[Node, Node]
) -> Node:
    """Return a size of one of the node's tensors, plus or times a constant, that gives `values`."""
    places = [node.all_input_nodes.index(one) for one in node.all_input_nodes]
    for place in (*places, None):
        tensors = [_shape(one.all_input_nodes[place]) if place is not None else _image_shape(one) for one in same]
        if any(shape is None for shape in tensors):
            continue
        source = image if place is None else node.all_input_nodes[place]
        for axis in range(min(len(shape) for shape in tensors if shape is not None)):
            sizes = [shape[axis] for shape in tensors if shape is not None]
            for combine, constant in ((operator.add, values[0] - sizes[0]), (operator.mul, values[0] // sizes[0])):
                if all(combine(size, constant) == value for size, value in zip(sizes, values, strict=True)):
                    size = graph.call_function(torch.ops.aten.sym_size.int, (made[source], axis))
                    return graph.call_function(combine, (size, constant))
    raise _DoesNotFollow(f"{node.target}, whose number is {', '.join(map(str, values))} at different sizes")


def _shape(node: Node) -> tuple[int, ...] | None:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _image_shape(node: Node) -> tuple[int, ...] | None:
    return _shape(next(one for one in node.graph.nodes if one.op == "placeholder"))
