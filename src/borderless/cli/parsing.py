"""Read the options of a command: a short help text, every option on demand, one sentence for a mistake.

tyro reads the words; what is printed is made here from the same dataclasses: the text under each field, and the default
as that text says it ("default: sample photographs"), else the value itself.
"""

import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from borderless.cli.options import UsageError
from borderless.runtime.did_you_mean import unknown

T = TypeVar("T")

HELP, HELP_ALL = ("-h", "--help"), "--help-all"
_WIDTH, _INDENT = 112, 28
# Longer lists of names are told with all options.
_MOST_LETTERS = 24
# How the hints below tyro's messages begin, and its messages in our words.
_HINTS = ("Argument helptext", "Perhaps you meant", "For full helptext", "Default value")
_SENTENCES = {
    r"Error parsing (\S+): .*invalid literal for int\(\).*: (.*)": "Expected a whole number for {} but got {}",
    r"Error parsing (\S+): .*could not convert string to float: (.*)": "Expected a number for {} but got {}",
    r"Error parsing (\S+): Could not find valid parse for arguments: (.*)": "Expected other values for {} but got {}",
    r"Missing value for argument '(\S+)'": "Expected a value after {} but got none",
    r"Unrecognized options: (.*)": "Expected options and their values but got {!r}",
    r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)": "Expected {1} to be one of {2} but got {0}",
    r"(Expected .* but got .*?)[.;][^.;]*$": "{}",
}
_PLACEHOLDERS = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}


@dataclass(frozen=True)
class _Option:
    name: str
    placeholder: str
    text: str
    default: str


def parse(kind: type[T], words: Sequence[str], usage: str, main: Sequence[str], default: T | None = None) -> T:
    """Return the options in `words`, or print a help text and raise SystemExit.

    Args:
        kind: A dataclass, each field with a text under it; fields of nested dataclasses are options without a prefix.
        words: As they were typed.
        usage: Text above the list of options in the help text.
        main: Names of the fields in the short help text, a dozen at most.
        default: What options start from; without it, the defaults of `kind`.

    Raises:
        UsageError: An option that does not exist, or a value that it does not take.
    """
    options = list(_options(kind, default))
    if any(word in (*HELP, HELP_ALL) for word in words):
        print(_help_text(usage, options, main, whole=HELP_ALL in words))
        raise SystemExit(0)
    known = [f"--{option.name}" for option in options]
    known += [f"--no-{option.name}" for option in options if not option.placeholder]
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            raise UsageError(unknown("option", name, known, f"{HELP_ALL} lists all"))
    import tyro  # not for a help text

    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            shape = cast(Any, tyro.conf.OmitArgPrefixes)[kind]
            return cast(T, tyro.cli(shape, args=list(words), default=default, console_outputs=True))
    except SystemExit:
        raise UsageError(f"{_mistake(told.getvalue())}; see {HELP_ALL}") from None


def _options(kind: type, default: Any) -> Iterator[_Option]:
    hints, texts = get_type_hints(kind, include_extras=True), _texts(kind)
    for field in dataclasses.fields(kind):
        if default is not None:
            value = getattr(default, field.name)
        else:
            value = field.default_factory() if callable(field.default_factory) else field.default
        hint = _plain(hints[field.name])
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _options(hint, value)
        else:
            yield _Option(field.name.replace("_", "-"), _placeholder(hint), texts[field.name], _said(value))


def _plain(hint: Any) -> Any:
    """Return a type without annotations and without None."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else hint
    return hint


def _placeholder(hint: Any) -> str:
    """Return the placeholder of a value, "" for a switch."""
    if hint is bool:
        return ""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        each = [_placeholder(_plain(kind)) for kind in get_args(hint) if kind is not Ellipsis]
        return f"{each[0]} …" if Ellipsis in get_args(hint) else " ".join(each)
    return _PLACEHOLDERS.get(hint, "TEXT")


def _texts(kind: type) -> dict[str, str]:
    """Return the text under each field of a dataclass, or that of `Annotated[..., Text(...)]`."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        found |= dict(one.__dict__.get("TEXTS", {}))
        if "TEXTS" in one.__dict__:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        body = cast(ast.ClassDef, definition).body
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[cast(ast.Name, field.target).id] = " ".join(str(text.value.value).split())
    return found


def _said(value: Any) -> str:
    if value is None or value == "" or value == () or value is dataclasses.MISSING:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _help_text(usage: str, options: Sequence[_Option], main: Sequence[str], whole: bool) -> str:
    order = [name.replace("_", "-") for name in main]
    first = sorted((option for option in options if option.name in order), key=lambda one: order.index(one.name))
    shown = [*first, *(option for option in options if option.name not in order)] if whole else first
    lines = [usage.rstrip(), "", "Options:"]
    for option in shown:
        placeholder = option.placeholder if whole or len(option.placeholder) <= _MOST_LETTERS else "NAME"
        name = f"--{option.name} {placeholder}" if placeholder else f"--[no-]{option.name}"
        lines += _entry(name, option, whole)
    if not whole and len(shown) < len(options):
        lines.append(f"  {HELP_ALL:<{_INDENT - 2}}{len(options) - len(shown)} more options")
    return "\n".join(lines)


def _entry(name: str, option: _Option, whole: bool) -> list[str]:
    text, _, said = option.text.removesuffix(".").partition(" (default:")
    said = said or (f" {option.default})" if option.default else "")
    default = f" (default:{said}" if said else ""
    width = _WIDTH - _INDENT
    if whole:
        lines = textwrap.wrap(text + default, width)
    else:
        sentence = re.split(r"(?<=[^.])\. |; ", text)[0]
        lines = [textwrap.shorten(sentence, max(20, width - len(default)), placeholder=" …") + default]
    if len(name) <= _INDENT - 4:
        return [f"  {name:<{_INDENT - 2}}{lines[0]}", *(" " * _INDENT + line for line in lines[1:])]
    if whole:
        return [f"  {name}", *(" " * _INDENT + line for line in lines)]
    return [f"  {name}  {textwrap.shorten(lines[0], max(20, _WIDTH - len(name) - 4), placeholder=' …')}"]


def _mistake(told: str) -> str:
    """Return tyro's message as one sentence: the lines between the title of its box and the hints."""
    lines = [line.strip(" │├┤╭╮╰╯─") for line in told.splitlines()]
    lines = [line for line in lines if line.strip("-")]
    ends = [i for i, line in enumerate(lines) if line.startswith(_HINTS)]
    message = " ".join(lines[1 : ends[0] if ends else None])
    for pattern, sentence in _SENTENCES.items():
        if (found := re.search(pattern, message)) is not None:
            return sentence.format(*found.groups())
    return message.removesuffix(".") or "Expected options of this command but got others"
