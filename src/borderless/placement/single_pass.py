"""One call of a model on Signals that the caller makes, as far as a module of it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from borderless.conversion import Conversion, attached, conversion_of
from borderless.engine.border import Border
from borderless.engine.image_arguments import in_layout, put_images, with_image
from borderless.engine.inputs import arguments_named
from borderless.engine.leaving import unwatched
from borderless.engine.outputs import materialized, release
from borderless.engine.signal import Signal
from borderless.errors import ImageError

Pool = Literal["average", "max"]


class _Reached(Exception):
    pass


class SinglePass(Conversion):
    """Runs a model on Signals that the caller makes, as far as a module of it; pools its output, chooses channels."""

    def __init__(
        self,
        model: nn.Module,
        output: str,
        pool: Pool | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        channels: Sequence[int] | None = None,
    ) -> None:
        before = conversion_of(model)
        super().__init__(Border("zero") if before is None else before.border)
        if before is not None and before.strict:
            self.strict = True
        modules = dict(model.named_modules()) if output else {"": model}
        if output not in modules:
            raise ImageError(
                f"Expected output to be '' or the name of a module of {type(model).__name__}, as in named_modules(), "
                f"such as {', '.join(list(modules)[1:4])}, but got {output!r}."
            )
        if pool is not None and pool not in get_args(Pool):
            raise ImageError(
                f"Expected pool to be one of {', '.join(map(repr, get_args(Pool)))}, or None, but got {pool!r}."
            )
        self.model, self.module, self.pool, self.args, self.kwargs = model, modules[output], pool, args, kwargs or {}
        self.images = None if before is None else before.images
        self.is_converted = before is not None
        self.channels = channels
        self.make: Callable[[Tensor], Any] = lambda leaf: leaf
        self.output: Tensor | None = None

    def __call__(self, make: Callable[[Tensor], Any], images: Tensor) -> Tensor:
        """Run the model on `images`, made to Signals by `make`; return what comes out of the module."""
        self.make, self.canvas = make, images
        args, kwargs = with_image(self.model, self.images, images, self.args, self.kwargs)

        def run() -> None:
            with attached(self.model, self), arguments_named(self.model, self.args, self.kwargs, self.images):
                self.model(*args, **kwargs)

        return self._output_of(run)

    def unwatched(self, images: Tensor) -> Tensor:
        """Run an unconverted model on `images`, without Signals; return what comes out of the module."""

        def run() -> None:
            output = self.model(images, *self.args, **self.kwargs)
            if self.module is self.model:
                self.output = self._pooled(output)

        return self._output_of(run)

    def _output_of(self, run: Callable[[], None]) -> Tensor:
        """Return what comes out of the module while the model runs, which goes no further."""
        self.output = None
        inner = None if self.module is self.model else self.module.register_forward_hook(self._reached)
        try:
            run()
        except _Reached:
            pass
        finally:
            if inner is not None:
                inner.remove()
        if self.output is None:
            raise ImageError(
                f"Expected a module that the pass goes through but got output={type(self.module).__name__}, which "
                f"{type(self.model).__name__} did not call; name another."
            )
        return self.output

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make Signals of the images."""

        def make(leaf: Tensor, layout: str | None) -> Any:
            if leaf is not self.canvas:
                raise ImageError(
                    f"Expected one image, the canvas, but got a tensor of shape {tuple(leaf.shape)} in args or kwargs. "
                    "Put it into a module around the model"
                )
            return in_layout(self.make(leaf), layout)

        return put_images(self.model, self.images, args, kwargs, make)

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Take the model's own output, if it is asked for."""
        if self.module is self.model and output is not None:
            self.output = self._pooled(output)
        # Of a map on a canvas that nobody asked for, the window will do.
        release(module, lambda signal: materialized(signal.window))
        return output

    def _reached(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.output = self._pooled(output)
        raise _Reached

    def _pooled(self, output: Any) -> Tensor:
        output = unwatched(output)
        if not isinstance(output, Tensor):
            raise ImageError(
                f"Expected a module that returns one tensor but got {type(output).__name__} from "
                f"{type(self.module).__name__}; name one inside the model with output=."
            )
        if self.pool is not None:
            if output.ndim < 3:
                raise ImageError(
                    f"Expected a feature map (batch, channels, *space) for pool={self.pool!r} but got an output of "
                    f"shape {tuple(output.shape)}; leave pool out, or name an earlier module with output=."
                )
            axes = output.axes if isinstance(output, Signal) else tuple(range(2, output.ndim))
            output = output.mean(axes) if self.pool == "average" else output.amax(axes)
        output = output.crop() if isinstance(output, Signal) else output
        return output if self.channels is None else _chosen(output, self.channels)


def _chosen(output: Tensor, channels: Sequence[int]) -> Tensor:
    count = output.shape[1] if output.ndim > 1 else 0
    wrong = [channel for channel in channels if not -count <= channel < count]
    if wrong:
        raise ImageError(
            f"Expected classes or channels of an output of shape {tuple(output.shape)} but got {wrong[0]}; the "
            f"numbers 0 to {count - 1} exist."
            if count
            else f"Expected an output with channels to choose {wrong[0]} of but got one of shape {tuple(output.shape)}."
        )
    return output[:, list(channels)]
