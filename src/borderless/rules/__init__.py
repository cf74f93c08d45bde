"""How each function that a model calls acts on a Signal: one file a family, one rule a function.

A rule is called in place of the function, as ``rule(function, *args, **kwargs)``, with at least one Signal among the
arguments, and returns what the model shall go on with. It computes on `signal.window` and `signal.background`, which
are ordinary tensors, and builds its result with `signal.derive`.

>>> import torch, borderless as bl
>>> @bl.rules.rule(torch.special.i0e)  # acts on every cell alike, so on the background too
... def scaled_bessel(function, signal):
...     background = None if signal.background is None else function(signal.background)
...     return signal.derive(function(signal.window), background)
"""

from borderless.rules.registry import rule

__all__ = ["rule"]
