"""The playground's pages, in Gradio: what is clicked goes to `views`, what comes back is shown.

Only this machine is listened to unless told otherwise. Every visitor's clicks and files stay in their own session;
uploads are bounded in size and number and opened by `data.pictures.opened`, which refuses what unpacks to too much.
Long work yields, so that it can be cancelled, and few run at a time; who comes when all places are taken is told so.
"""

import contextlib
import itertools
import queue
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from borderless.data.drawings import LETTER, LETTER_IMAGE_PX
from borderless.data.photos import PHOTOS
from borderless.engine.border import BORDERS, PHASES
from borderless.errors import ApproximatePhaseWarning, BorderlessError, MissingPackage, PositionDependentWarning
from borderless.experiments.rook import RookConfig
from borderless.experiments.rook.experiment import training
from borderless.models.choices import ARCHITECTURE
from borderless.playground import views

if TYPE_CHECKING:
    import gradio

LOCAL = "127.0.0.1"
MOST_UPLOADED = "20mb"
# Of one kind of work at a time, and of requests that wait.
AT_ONCE, WAITING = 2, 24
EPOCHS, EPOCHS_A_PICTURE = 100, 4
WORKER = "audit"
_PLACES = threading.BoundedSemaphore(AT_ONCE)
WEIGHTS = ("packaged", "random", "default", "pretrained")


def launch(host: str = LOCAL, port: int | None = None, opens_browser: bool = False, blocks: bool = True) -> Any:
    """Serve the playground; returns (app, address, share address), at once if it does not block.

    Raises MissingPackage without Gradio.
    """
    gr = _gradio()
    made = build()
    made.queue(default_concurrency_limit=AT_ONCE, max_size=WAITING)
    return made.launch(
        server_name=host,
        server_port=port,
        inbrowser=opens_browser,
        share=False,
        prevent_thread_lock=not blocks,
        quiet=True,
        footer_links=[],
        run_history=False,
        max_file_size=MOST_UPLOADED,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )


def build() -> "gradio.Blocks":
    """All tabs; files are deleted when they are an hour old."""
    gr = _gradio()
    with gr.Blocks(title="borderless", analytics_enabled=False, delete_cache=(300, 3300)) as made:
        gr.Markdown("# borderless\nDoes a CNN use *where* things are? Place an object, choose a border, and watch.")
        with gr.Tab("Equivariance"):
            first = _equivariance(gr)
        with gr.Tab("Rook"):
            _rook(gr)
        with gr.Tab("Your network"):
            _network(gr)
        with gr.Tab("Audit"):
            _audit(gr)
        made.load(*first)
    return made


def _equivariance(gr: Any) -> tuple[Callable[..., Any], list[Any], list[Any]]:
    """The tab; returns what fills it when the page is opened: a function, its inputs, its outputs."""
    gr.Markdown("Click where the object stands. Convolve and shift, or shift and convolve: is it the same?")
    start = ((LETTER_IMAGE_PX - LETTER.shape[0]) // 2, (LETTER_IMAGE_PX - LETTER.shape[1]) // 2)
    place = gr.State(start)
    with gr.Row():
        scene = gr.Image(views.enlarged(start), label="the image: click", interactive=False, buttons=[])
        with gr.Column():
            border = gr.Radio(list(BORDERS), value="zero", label="border")
            filter_name = gr.Radio(list(views.FILTERS), value="corner", label="filter, twice, with a ReLU between")
            bias = gr.Slider(0, 1, value=0, step=0.25, label="bias")
            down = gr.Slider(-8, 8, value=8, step=1, label="shift down, px")
            right = gr.Slider(-8, 8, value=8, step=1, label="shift right, px")
    difference = gr.Textbox(label="largest difference, relative to the largest answer", elem_id="difference")
    picture = _picture(gr, "The two maps, convolved and shifted in either order, and their difference")
    inputs = [border, filter_name, bias, place, down, right]

    def compare(border: str, name: str, bias: float, place: Any, down: float, right: float) -> tuple[str, Any]:
        found = _told(gr, lambda: views.shift_and_convolve(border, name, bias, tuple(place), (int(down), int(right))))
        return f"{found.difference:.3g}", found.picture

    def click(event: "gradio.SelectData") -> tuple[Any, tuple[int, int]]:
        column, row = (int(at) // views.CELL_PX for at in event.index)
        where = views.clamped((row, column), LETTER.shape[0], LETTER_IMAGE_PX)
        return views.enlarged(where), where

    click.__annotations__ = {"event": gr.SelectData}
    scene.select(click, None, [scene, place]).then(compare, inputs, [difference, picture])
    for control in (border, filter_name, bias, down, right):
        control.change(compare, inputs, [difference, picture])
    return compare, inputs, [difference, picture]


def _rook(gr: Any) -> None:
    gr.Markdown(
        "Two images with the same rook, upper left and lower right; one filter, a ReLU, a global maximum. Can it learn "
        "which is which?"
    )
    with gr.Row():
        border = gr.Radio(list(BORDERS), value="zero", label="border")
        seed = gr.Slider(0, 9, value=0, step=1, label="seed")
        with gr.Column():
            train = gr.Button("Train", variant="primary", elem_id="train")
            stop = gr.Button("Cancel", elem_id="stop-training")
    accuracy = gr.Textbox(label="accuracy", elem_id="rook-accuracy")
    picture = _picture(gr, "The filter, and its maps of both images")

    def trained(border: str, seed: float) -> Iterator[tuple[str, Any]]:
        config = RookConfig(epochs=EPOCHS)
        moments = training(config, border, int(seed))
        with views.DRAWING:
            first = next(moments)
        for epoch, moment in enumerate(itertools.chain([first], moments)):
            if epoch % EPOCHS_A_PICTURE == 0 or epoch == EPOCHS:
                text = f"{100 * moment.accuracy:.0f} % after {epoch} of {EPOCHS} epochs"
                yield text, views.rook_moment(moment, border, epoch, EPOCHS)

    running = train.click(trained, [border, seed], [accuracy, picture])
    _cancels(stop, running, accuracy)


def _network(gr: Any) -> None:
    gr.Markdown(
        "Click where the photograph stands, on a grey canvas; the probability is that of the class in the middle."
    )
    place = gr.State(views.MIDDLE)
    with gr.Row():
        scene = gr.Image(views.canvas("cat", views.MIDDLE), label="the canvas: click", interactive=False, buttons=[])
        with gr.Column():
            name, weights = _which(gr)
            thing = gr.Radio(list(PHOTOS), value="cat", label="object")
            border = gr.Radio([views.OWN, *BORDERS], value=views.OWN, label="border")
            phase = gr.Radio(list(PHASES), value="fixed", label="phase")
            reach = gr.Slider(-1, 8, value=2, step=1, label="reach, cells (of full and infinite; -1: endless)")
            press = gr.Button("Ask", elem_id="ask")
    with gr.Row():
        here = gr.Textbox(label="probability here", elem_id="here")
        middle = gr.Textbox(label="probability in the middle", elem_id="middle")
        answers = gr.Textbox(label="in the middle, and here", elem_id="answers")
    with gr.Row():
        grow = gr.Button("Grow the map of places", variant="primary", elem_id="grow")
        stop = gr.Button("Cancel", elem_id="stop-map")
    state = gr.Textbox(label="map", elem_id="map-state")
    heat = _picture(gr, "The probability of the class with the object at every place")
    choice = [name, weights, border, phase, reach]

    def model(name: str, weights: str, border: str, phase: str, reach: float) -> Any:
        bound = None if reach < 0 or border not in ("full", "infinite") else int(reach)
        with warnings.catch_warnings(record=True, action="always") as told:
            found = views.network(name, weights, border, phase, bound)
        for warning in told:
            if issubclass(warning.category, ApproximatePhaseWarning | PositionDependentWarning):
                gr.Warning(str(warning.message))
        return found

    def ask(place: Any, thing: str, *choice: Any) -> tuple[str, str, str]:
        found = _told(gr, lambda: views.answer(model(*choice), thing, tuple(place)))
        return f"{100 * found.here:.2f} %", f"{100 * found.middle:.2f} %", f"{found.name}; {found.answer_here}"

    def click(thing: str, event: "gradio.SelectData") -> tuple[Any, tuple[int, int]]:
        column, row = (int(at) for at in event.index)
        where = views.clamped((row, column), views.THING_PX, views.CANVAS_PX)
        return views.canvas(thing, where), where

    click.__annotations__ = {"thing": str, "event": gr.SelectData}

    def growing(thing: str, *choice: Any) -> Iterator[tuple[str, Any]]:
        chosen = _told(gr, lambda: model(*choice))
        rows = views.growing_map(chosen, thing)
        for done in range(1, views.MAP_SIDE + 1):
            _, picture = _told(gr, lambda: next(rows))
            yield f"{done} of {views.MAP_SIDE} rows", picture

    inputs, outputs = [place, thing, *choice], [here, middle, answers]
    scene.select(click, [thing], [scene, place]).then(ask, inputs, outputs)
    thing.change(views.canvas, [thing, place], scene).then(ask, inputs, outputs)
    press.click(ask, inputs, outputs)
    running = grow.click(growing, [thing, *choice], [state, heat])
    _cancels(stop, running, state)


def _audit(gr: Any) -> None:
    gr.Markdown(
        f"Up to {views.MOST_IMAGES} images of at most {MOST_UPLOADED} each. They stay on the machine that runs the "
        "playground, and are deleted in an hour or so. An audit takes minutes."
    )
    with gr.Row():
        files = gr.File(label="images", file_count="multiple", file_types=["image"], elem_id="images")
        with gr.Column():
            name, weights = _which(gr)
            size = gr.Slider(32, 320, value=224, step=32, label="height and width the network is shown, px")
            start = gr.Button("Audit", variant="primary", elem_id="audit")
            stop = gr.Button("Cancel", elem_id="stop-audit")
    state = gr.Textbox(label="audit", elem_id="audit-state", lines=2)
    verdict = gr.Markdown(elem_id="verdict")
    report = gr.File(label="the report", interactive=False)

    def audit(paths: list[str] | None, name: str, weights: str, size: float) -> Iterator[tuple[str, str, Any]]:
        chosen = _told(gr, lambda: views.network(name, weights))
        images, problems = _told(gr, lambda: views.uploaded(paths or [], int(size), chosen))
        left_out = f"; left out: {'; '.join(problems)}" if problems else ""
        folder = Path(tempfile.mkdtemp(prefix="borderless-"))
        try:
            for done, of, part, found in audited(chosen.model, images, name):
                if found is None:
                    yield f"{done:.0f} of {of} parts: {part}{left_out}", "", None
                else:
                    page = folder / "report.html"
                    found.save(folder)
                    yield f"done, {len(images)} images{left_out}", _verdict(found), str(page)
        except BorderlessError as error:
            raise gr.Error(str(error)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    running = start.click(audit, [files, name, weights, size], [state, verdict, report])
    _cancels(stop, running, state)


def _cancels(stop: Any, running: Any, state: Any) -> None:
    """`stop` ends `running`, and says so once that has ended: what it still yields on the way would be read last."""
    stop.click(None, cancels=[running]).then(lambda: "cancelled", None, state)


def _picture(gr: Any, text: str) -> Any:
    """A picture that is only looked at; text: for who cannot see it."""
    return gr.Image(show_label=False, interactive=False, buttons=[], alt_text=text)


def _which(gr: Any) -> tuple[Any, Any]:
    """The two controls that choose a network."""
    name = gr.Textbox(ARCHITECTURE, label="network: of torchvision, timm/NAME, or of the paper", elem_id="network")
    weights = gr.Radio(list(WEIGHTS), value="packaged", label="its weights (default, pretrained: downloaded)")
    return name, weights


def audited(model: Any, images: Any, name: str) -> Iterator[tuple[float, int, str, Any]]:
    """Parts done, parts in all, the next part's name; at the end the audit. Whoever stops asking stops the work."""
    from borderless.auditing.run import audit

    told: queue.Queue[tuple[float, int, str, Any]] = queue.Queue()
    gone = threading.Event()

    def stop_if_gone(*_: Any) -> None:
        if gone.is_set():
            raise _Stopped

    def progress(done: float, of: int, part: str) -> None:
        stop_if_gone()
        told.put((done, of, part, None))

    def work() -> None:
        with _PLACES:
            # Inside a part, each run of the model looks whether anybody still waits.
            watch = model.register_forward_pre_hook(stop_if_gone)
            try:
                stop_if_gone()
                told.put((0, 0, "", audit(model, images, name=name, progress=progress)))
            except _Stopped:
                pass
            except Exception as error:
                told.put((0, 0, "", error))
            finally:
                watch.remove()

    threading.Thread(target=work, name=WORKER, daemon=True).start()
    step: tuple[float, int, str, Any] = (0, 1, "waiting for a place", None)
    try:
        while True:
            # Often, so that whoever cancels is heard at once.
            with contextlib.suppress(queue.Empty):
                step = told.get(timeout=0.3)
            if isinstance(step[3], Exception):
                raise step[3]
            yield step
            if step[3] is not None:
                return
    finally:
        gone.set()


class _Stopped(BaseException):
    """Past all that takes an audit's part for lost when it fails."""


def _verdict(found: Any) -> str:
    from borderless.auditing.verdict import judge
    from borderless.report.content import LEVELS, plain_text

    return "\n".join(f"- **{LEVELS[finding.level]}** {plain_text(finding.text)}" for finding in judge(found))


def _told(gr: Any, run: Callable[[], Any]) -> Any:
    """What `run` gives; what is wrong is shown to the visitor."""
    try:
        return run()
    except BorderlessError as error:
        raise gr.Error(str(error)) from error


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise MissingPackage(
            'got no package gradio, which serves the playground; install it with: pip install "borderless[playground]"'
        ) from error
    return gradio
