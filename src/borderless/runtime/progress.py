"""Tell how much of a long task is done and how long the rest will take: as a bar on a terminal, else as lines.

Without a terminal (a log file, a notebook, a cluster) a line is written at least every `EVERY_S` seconds.
"""

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

EVERY_S = 5.0
# The share that must be done before the rest is estimated.
_FEWEST = 0.02

Tell = Callable[[float, str], None]


@contextmanager
def telling(title: str, is_shown: bool = True, every_s: float = EVERY_S) -> Generator[Tell]:
    """Yield a function to call with the share that is done, in [0, 1], and with what is being done.

    Args:
        title: The name of the task.
        is_shown: Whether anything is written; every process but one of several is silent.
        every_s: The longest time between two lines.

    Example:
        >>> with telling("audit", is_shown=False) as tell:
        ...     tell(0.5, "half")
    """
    if not is_shown:
        yield _silent
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield from _lines(title, every_s)


def _silent(share: float, text: str) -> None:
    """Write nothing."""


def _bar(title: str) -> Generator[Tell]:
    from rich.console import Console  # not for whoever only imports the package
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    start = time.monotonic()
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1.0)

        def tell(share: float, text: str) -> None:
            left = remaining(share, time.monotonic() - start)
            bar.update(task, completed=share, description=f"{left}: {text}" if left and text else text)

        yield tell


def _lines(title: str, every_s: float) -> Generator[Tell]:
    start = time.monotonic()
    state: list[tuple[float, str]] = [(0.0, "")]
    ended = threading.Event()

    def write() -> None:
        share, text = state[0]
        passed = time.monotonic() - start
        parts = [f"{100 * share:.0f} %", f"{clock(passed)} elapsed", remaining(share, passed), text]
        sys.stderr.write(f"{title}: {', '.join(part for part in parts if part)}\n")
        sys.stderr.flush()

    def work() -> None:
        while not ended.wait(every_s):
            write()

    # A step of the task may last longer than that, so the lines do not wait for it.
    thread = threading.Thread(target=work, name=f"progress of {title}", daemon=True)
    thread.start()

    def tell(share: float, text: str) -> None:
        state[0] = (share, text)

    try:
        yield tell
    finally:
        ended.set()
        thread.join()
        write()


def remaining(share: float, passed_s: float) -> str:
    """Return the time left at the same speed; "" where that cannot be told yet, or is over.

    Example:
        >>> remaining(0.25, 30.0)
        'about 1:30 left'
    """
    if not _FEWEST <= share < 1:
        return ""
    return f"about {clock(passed_s * (1 - share) / share)} left"


def clock(seconds: float) -> str:
    """Return minutes and seconds, and hours if there are some.

    Example:
        >>> clock(5), clock(3725)
        ('0:05', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
