"""The page: five tabs in Gradio, whose state is in its address (`?tab=rook&border=full&seed=3`).

A tab is a module with NAME, TITLE and LEAD, `controls`, `shown`, `frames`, `code`, and `clicked` where its picture can
be clicked. What is read from the address is checked against the controls: nothing else gets in.
"""

import html
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import gradio as gr

from borderless.errors import BorderlessError
from borderless.playground import audit_tab, network_tab, rook_tab, shift_tab, tiles_tab
from borderless.playground.door import KEPT_S
from borderless.playground.panels import animation_address, data_address

if TYPE_CHECKING:
    from fastapi import FastAPI

# Of one kind of work at a time, and of requests that wait.
AT_ONCE, WAITING = 2, 24
LARGEST_FILE = "20mb"
FRAME_S = 0.25
TABS = (shift_tab, rook_tab, network_tab, tiles_tab)
PRESETS = {
    "An F in the corner": "?tab=shift&border=zero&direction=↖&shift=8",
    "The rook of Kayhan and van Gemert": "?tab=rook&border=full&seed=0&epoch=100",
    "The cat at the edge": "?tab=network&photo=cat&border=infinite&row=0&column=20",
}
_HERE = Path(__file__).parent
# Tabs are selected before the address has been read, too.
_REMEMBER = """(...values) => {{
  if (!window.isRestored) return values;
  const address = new URL(window.location), names = {names};
  for (const key of [...address.searchParams.keys()])
    if (!key.startsWith("__")) address.searchParams.delete(key);
  address.searchParams.set("tab", {tab});
  names.forEach((name, i) => address.searchParams.set(name, values[i]));
  window.history.replaceState(null, "", address);
  return values;
}}"""
_DOWNLOAD = """(data) => {{
  if (!data) return;
  const link = document.createElement("a");
  link.href = data; link.download = {name}; link.click();
}}"""
_SAVE_REPORT = """() => {
  const frame = document.querySelector("#report iframe");
  if (!frame) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([frame.srcdoc], {type: "text/html"}));
  link.download = "report.html"; link.click(); URL.revokeObjectURL(link.href);
}"""
_CLICKS = """element.addEventListener("click", (event) => {
  if (!event.target.classList.contains("scene")) return;
  const box = event.target.getBoundingClientRect();
  trigger("click", {down: (event.clientY - box.top) / box.height, right: (event.clientX - box.left) / box.width});
});"""
# An absolute path, of which only the last part may be shown.
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?[\\/](?:[^\s\\/'\"]+[\\/])+([^\s\\/'\"]*)")


@dataclass(frozen=True)
class Wired:
    """A tab in the page: its name, its controls by their names in the address, and what fills it."""

    name: str
    controls: Mapping[str, Any]
    fill: Callable[..., Any] | None
    outputs: tuple[Any, ...]

    @property
    def remember(self) -> str:
        """A script that writes the controls' values into the address and passes them on."""
        return _REMEMBER.format(names=json.dumps(list(self.controls)), tab=json.dumps(self.name))


def mounted() -> "FastAPI":
    """Return the page as an application."""
    from fastapi import FastAPI

    page = build()
    page.queue(default_concurrency_limit=AT_ONCE, max_size=WAITING)
    hues: dict[str, Any] = {"primary_hue": gr.themes.colors.emerald, "neutral_hue": gr.themes.colors.stone}
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="",
        footer_links=[],
        run_history=False,
        max_file_size=LARGEST_FILE,
        show_error=False,
        theme=gr.themes.Base(**hues, font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
    )


def build() -> gr.Blocks:
    """Return all tabs."""
    with gr.Blocks(title="borderless", analytics_enabled=False, delete_cache=(300, KEPT_S - 300)) as page:
        links = " ".join(f'<a href="{html.escape(address)}">{name}</a>' for name, address in PRESETS.items())
        gr.HTML(
            "<header><h1>borderless</h1><p>Does a CNN use absolute position? Move an object, choose a border, and "
            f'watch.</p><nav aria-label="presets">{links}</nav></header>'
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            wired = []
            for module in TABS:
                with gr.Tab(module.TITLE, id=module.NAME) as tab:
                    wired.append(_tab(module))
                _filled_when_selected(tab, wired[-1])
            with gr.Tab(audit_tab.TITLE, id=audit_tab.NAME) as tab:
                wired.append(_audit())
            _filled_when_selected(tab, wired[-1])
        controls = [control for each in wired for control in each.controls.values()]
        page.load(_restored(wired), None, [tabs, *controls], show_progress="hidden").then(
            wired[0].fill, list(wired[0].controls.values()), list(wired[0].outputs), show_progress="hidden"
        ).then(None, None, None, js="() => { window.isRestored = true; }")
    return page


def _filled_when_selected(tab: Any, wired: Wired) -> None:
    inputs = list(wired.controls.values())
    tab.select(wired.fill, inputs, list(wired.outputs), js=wired.remember)


def _tab(module: ModuleType) -> Wired:
    """Lay out a tab whose contents follow from its controls, and wire it."""
    gr.Markdown(module.LEAD, elem_classes="lead")
    contents = gr.HTML(elem_id=f"{module.NAME}-shown", js_on_load=_CLICKS, elem_classes="shown")
    with gr.Row(elem_classes="buttons"):
        play = gr.Button("▶ Play", variant="primary", elem_id=f"{module.NAME}-play")
        stop = gr.Button("Stop", elem_id=f"{module.NAME}-stop")
        maps = gr.Button("Compute both maps", elem_id="maps") if module is network_tab else None
        hide = gr.Button("Occlusion map", elem_id="hide") if module is network_tab else None
        png = gr.Button("Save PNG", elem_id=f"{module.NAME}-png")
        gif = gr.Button("Save GIF", elem_id=f"{module.NAME}-gif")
    controls = module.controls(gr)
    with gr.Accordion("Copy as Python", open=False):
        program = gr.Code(language="python", interactive=False, show_label=False, elem_id=f"{module.NAME}-code")
    saved = gr.Textbox(visible=False)
    inputs = list(controls.values())

    def fill(*values: Any) -> tuple[str, str]:
        return told(lambda: (module.shown(*values).html(), module.code(*values)))

    wired = Wired(module.NAME, controls, fill, (contents, program))
    for control in inputs:
        change = control.submit if isinstance(control, gr.Textbox) else control.input
        change(fill, inputs, [contents, program], js=wired.remember, show_progress="hidden")

    def played(*values: Any) -> Iterator[tuple[Any, ...]]:
        for moved, shown in told_each(module.frames(*values)):
            yield shown.html(), *(moved.get(name, value) for name, value in zip(controls, values, strict=True))
            time.sleep(FRAME_S)

    running: list[Any] = [play.click(played, inputs, [contents, *inputs], show_progress="hidden")]
    if maps is not None:

        def mapped(*values: Any) -> Iterator[str]:
            photo, border, _, _, *network = values
            for rows in told_each(network_tab.growing_maps(photo, border, *network)):
                yield told(lambda: module.shown(*values).html())
                if rows == network_tab.MAP_SIDE:
                    return

        running.append(maps.click(mapped, inputs, contents, show_progress="hidden"))
    if hide is not None:

        def hidden(*values: Any) -> str:
            return told(lambda: network_tab.hide(*values) or module.shown(*values).html())

        running.append(hide.click(hidden, inputs, contents, show_progress="hidden"))
    stop.click(None, cancels=running)

    def click(event: gr.EventData, *values: Any) -> tuple[Any, ...]:
        moved = module.clicked(event.down, event.right)
        values = tuple(moved.get(name, value) for name, value in zip(controls, values, strict=True))
        return *fill(*values), *values

    if hasattr(module, "clicked"):
        clicking = contents.click(click, inputs, [contents, program, *inputs], show_progress="hidden")
        clicking.then(None, inputs, None, js=wired.remember)

    def picture(*values: Any) -> str:
        return told(lambda: data_address(module.shown(*values).picture()))

    def film(*values: Any) -> str:
        return told(lambda: animation_address([shown.picture() for _, shown in module.frames(*values)]))

    for button, made, suffix in ((png, picture, "png"), (gif, film, "gif")):
        name = json.dumps(f"borderless-{module.NAME}.{suffix}")
        button.click(made, inputs, saved).then(None, saved, None, js=_DOWNLOAD.format(name=name))
    return wired


def _audit() -> Wired:
    gr.Markdown(audit_tab.LEAD, elem_classes="lead")
    with gr.Row():
        files = gr.File(label="Images", file_count="multiple", file_types=["image"], elem_id="images", height=140)
        with gr.Column():
            name, weights = network_tab.network_controls(gr)
            size = gr.Slider(32, 320, value=224, step=32, label="Height and width of the images, px", elem_id="size")
    thumbnails = gr.HTML()
    with gr.Row(elem_classes="buttons"):
        start = gr.Button("Audit", variant="primary", elem_id="audit")
        stop = gr.Button("Cancel", elem_id="audit-stop")
        save = gr.Button("Save the report", elem_id="audit-save")
    state = gr.Textbox(label="Progress", elem_id="audit-state", interactive=False, lines=1)
    report = gr.HTML(elem_id="report")
    with gr.Accordion("Copy as Python", open=False):
        program = gr.Code(language="python", interactive=False, show_label=False, elem_id="audit-code")
    controls = {"network": name, "weights": weights, "size": size}
    inputs = list(controls.values())
    wired = Wired(audit_tab.NAME, controls, audit_tab.code, (program,))
    for control in inputs:
        change = control.submit if isinstance(control, gr.Textbox) else control.input
        change(audit_tab.code, inputs, program, js=wired.remember, show_progress="hidden")

    def audit(paths: Any, *values: Any) -> Iterator[tuple[str, str]]:
        for step, page in told_each(audit_tab.run(paths, *values)):
            yield without_paths(step), page

    running = start.click(audit, [files, *inputs], [state, report], show_progress="hidden")
    # Said once it has ended: what it still yields on the way would be read last.
    stop.click(None, cancels=[running]).then(lambda: "canceled", None, state)
    save.click(None, None, None, js=_SAVE_REPORT)
    files.change(lambda paths: told(lambda: audit_tab.thumbnails(paths)), files, thumbnails, show_progress="hidden")
    return wired


def _restored(wired: list[Wired]) -> Callable[..., list[Any]]:
    """Return what reads the page's address: the tab, and the values of its controls."""

    def restore(request: gr.Request) -> list[Any]:
        asked = dict(request.query_params)
        chosen = next((each for each in wired if each.name == asked.get("tab")), wired[0])
        found: list[Any] = [gr.Tabs(selected=chosen.name)]
        for each in wired:
            for name, control in each.controls.items():
                value = _value(control, asked[name]) if each is chosen and name in asked else None
                found.append(control.value if value is None else value)
        return found

    return restore


def _value(control: Any, text: str) -> Any:
    """Return the value that a text of the address stands for; None for one that the control does not offer."""
    if isinstance(control, gr.Radio):
        return text if text in [value for _, value in control.choices] else None
    if isinstance(control, gr.Slider):
        try:
            value = float(text)
        except ValueError:
            return None
        return value if control.minimum <= value <= control.maximum else None
    return text[:200]


def told(run: Callable[[], Any]) -> Any:
    """Return what `run` gives; what is wrong is shown to the visitor."""
    try:
        return run()
    except BorderlessError as error:
        raise gr.Error(html.escape(without_paths(str(error))), print_exception=False) from error


def told_each(steps: Iterator[Any]) -> Iterator[Any]:
    """Yield what `steps` gives; what is wrong is shown to the visitor. Closing it closes `steps`."""
    try:
        yield from steps
    except BorderlessError as error:
        raise gr.Error(html.escape(without_paths(str(error))), print_exception=False) from error


def without_paths(text: str) -> str:
    """Return a text with the last part only of each absolute path in it.

    Example:
        >>> without_paths("cannot read '/srv/uploads/8fa3/cat.png' (resnet18 of timm/NAME)")
        "cannot read 'cat.png' (resnet18 of timm/NAME)"
    """
    return _PATH.sub(r"\1", text)
