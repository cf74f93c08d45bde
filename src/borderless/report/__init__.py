"""Findings as one page: sections of text, figures and tables go in, a single self-contained HTML file comes out."""

from borderless.report.content import Card, Figure, Note, Section, Table, TableCell, limited_html, plain_text
from borderless.report.page import write

__all__ = ["Card", "Figure", "Note", "Section", "Table", "TableCell", "limited_html", "plain_text", "write"]
