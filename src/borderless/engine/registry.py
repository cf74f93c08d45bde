"""The rules of torch functions, and what each needs. The families register their rules on import."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from borderless.engine.geometry import Slide
from borderless.engine.naming import is_torch_own

Rule = Callable[..., Any]
Kind = Literal["nothing", "cell", "neighborhood", "resampled", "channels", "gathered", "everything"]
Gather = Literal["mean", "sum", "max"]
# Of a rule: none of its arguments is a dimension, but dimension 1 is that of the channels.
CHANNELS_SECOND = "dimension 1 is that of the channels"
Dims = tuple[str, ...] | Literal["dimension 1 is that of the channels"] | Callable[..., Any]

# Keys of rules for more than one function.
DISPATCHED = "an operator that PyTorch's dispatcher met with a Signal"
UNKNOWN = "a function without a rule"
LEFT = "a function of cells that have left the engine"
REFUSED = "a function that a rule refused"

_RULES: dict[Any, Rule] = {}
_TRAITS: "dict[Rule, Traits]" = {}
_fallbacks: list[Callable[[Any], Rule | None]] = []


class Need(NamedTuple):
    """The cells of the incoming maps that each output cell of a call needs.

    Args:
        kind: "nothing" (the call asks what a map is), "cell" (the same cell), "channels" (all channels of the same
            cell), "neighborhood" (the cells that `slides` read, along each axis), "resampled" (the same, at another
            resolution), "gathered" (all cells; of a part of a map the rule gathers what it needs from the other parts
            with `Signal.gather_parts`), "everything" (all cells, or nobody knows).
        slides: Of a neighborhood, its sliding operations; of "everything", what reads the cells if not all of space is
            read, such as padding that mirrors the frame.
        over: Of "everything", the dimensions that are read whole, each cell along the others by itself; (): all.
    """

    kind: Kind
    slides: tuple[Any, ...] = ()
    over: tuple[int, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether outputs on a window need no more than a window, and what surrounds it."""
        return self.kind in ("cell", "channels", "neighborhood")


Declared = Kind | tuple[Slide, ...] | Need


@dataclass(frozen=True)
class Traits:
    """The properties that a rule declares about its calls; placement and tiling ask for nothing else.

    needs: what an output cell needs, or a function of the call, (function, *args, **kwargs), that returns it; slides
    stand for a neighborhood. gathers: how the value of a call over all of space follows from values over parts, or a
    function of the called function that returns it; None: it does not. beyond: what the call reads outside the frame
    under the original padding. dims: how the function acts on a map whose dimensions the model sees in another order,
    or merged to tokens (`relabeled`): the names of its arguments that are dimensions, or a rule (function, relabeled,
    *args, **kwargs) for such maps; None: not at all.
    """

    needs: Declared | Callable[..., Declared] = "everything"
    gathers: Gather | Callable[[Any], Gather | None] | None = None
    beyond: float = 0.0
    dims: Dims | None = None

    def __post_init__(self) -> None:
        if isinstance(self.needs, str) and self.needs not in get_args(Kind):
            raise ValueError(f"Expected needs to be one of {', '.join(get_args(Kind))} but got {self.needs!r}")

    def need(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Need:
        """Return what the call `function(*args, **kwargs)` needs."""
        needs = self.needs
        if callable(needs):
            needs = needs(function, *args, **kwargs)
        if isinstance(needs, Need):
            return needs
        if isinstance(needs, str):
            return Need(needs)
        is_cell = all(slide == Slide(1, dilation=slide.dilation) for slide in needs)
        return Need("cell" if is_cell else "neighborhood", needs)

    def gather(self, function: Any) -> Gather | None:
        """Return how values of `function` over parts of space become the value over all of it."""
        return self.gathers(function) if callable(self.gathers) else self.gathers


def rule(
    *functions: Any,
    needs: Declared | Callable[..., Declared] = "everything",
    gathers: Gather | Callable[[Any], Gather | None] | None = None,
    beyond: float = 0.0,
    dims: Dims | None = None,
) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule for each of `functions`, instead of any earlier one.

    The rule is called as ``rule(function, *args, **kwargs)`` with at least one Signal among the arguments. Without
    `needs`, `gathers` and `beyond` a placement runs whole feature maps.

    Args:
        *functions: Functions of PyTorch, or operators.
        needs: The cells that an output cell needs, a `Need` or its kind, or a function of the call that returns it.
        gathers: How the value of a call over all of space follows from values over parts.
        beyond: Value that the call reads outside the frame under the original padding.
        dims: Names of the arguments that are dimensions, or a rule for maps whose dimensions are in another order.

    Returns:
        A decorator, which returns the rule.
    """
    if not functions:
        raise TypeError("Expected rule(torch.some_function, ...) but got no function")

    def register(implementation: Rule) -> Rule:
        for function in functions:
            _RULES[function] = implementation
        return declare(implementation, Traits(needs, gathers, beyond, dims))

    return register


def assign(implementation: Rule, *functions: Any) -> None:
    """Register a rule, whose traits stay as they are declared, for more `functions`."""
    if not functions:
        raise TypeError("Expected assign(rule, torch.some_function, ...) but got no function")
    _RULES.update(dict.fromkeys(functions, implementation))


def declare(implementation: Rule, traits: Traits) -> Rule:
    """Note the traits of a rule, whatever functions it is for."""
    _TRAITS[implementation] = traits
    return implementation


def traits_of(implementation: Rule) -> Traits:
    """Return what a rule declared; by default that it needs everything."""
    return _TRAITS.get(implementation, _UNDECLARED)


_UNDECLARED = Traits()


def fallback(search: Callable[[Any], Rule | None]) -> Callable[[Any], Rule | None]:
    """Register a search that is asked, in the order of registration, for functions without a rule of their own."""
    _fallbacks.append(search)
    return search


def find_rule(function: Any) -> Rule:
    """Return the rule for `function`, the one for unknown functions if it has none."""
    found = _RULES.get(function)
    if found is None:
        found = next((answer for search in _fallbacks if (answer := search(function)) is not None), _RULES[UNKNOWN])
        if is_torch_own(function):  # scripted methods and closures may be new ones at every call
            _RULES[function] = found
    return found
