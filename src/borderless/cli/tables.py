"""Tables of a report, printed to the terminal."""

import sys

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from borderless.report.content import Table, plain_text


def print_table(table: Table) -> None:
    """Print `table` and its caption, numbers to the right."""
    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for column, is_number in zip(table.columns, table.numeric_columns(), strict=True):
        shown.add_column(Text(plain_text(column)), justify="right" if is_number else "left", overflow="fold")
    for row in table.text_rows():
        shown.add_row(*(Text(plain_text(cell)) for cell in row))
    # In a file or a pipe there is no edge to stay within.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    if table.caption:
        console.print(Text(plain_text(table.caption), style="dim"))
    console.print()
