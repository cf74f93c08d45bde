"""Words that are retired: the private dialect of the first version, and British spelling.

`STYLE` of a text: the field's words, one word for one thing. A finding reads `file:line: word → what to say`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "borderless"

# A retired word (a regular expression, upper or lower case) and what to say.
DIALECT = {
    r"answer(s|ed|ing)?": "prediction, output, response",
    r"own[- ]padding": "original padding",
    r"empti(ness|nesses)": "background",
    r"endless(ly)?": "unlimited",
    r"dear(er|est)?": "expensive",
    r"(stands?|stood|standing)(?! for\b| still\b| out\b)": "is, lies",
    r"(?<!decimal )places": "positions",
    r"(any|each|every|one|other|another|same|its|their|his|that|what|which|whose|worst|best|true|right|wrong|object's) "
    r"place": "position",
    r"at (a|the) place": "position",
    r"spots?": "position",
    r"what of (that|it|them|the)": "how much of",
    r"felt|feels?": "depends on",
    r"worth (less|more)": "accuracy drops",
    r"honest(ly|y)?": "(say what is measured)",
    r"pictures? says?|says? of (a|an|the)": "predicts for",
    r"(images|items|steps|examples|clips|multiply-adds) an? (image|pass|step|second|class|epoch|pixel)": "per …",
    r"^got": "Expected … but got …",
    r"needed(?=:)": "Expected … but got …",
    r"mind": "note, warning",
    r"an? own": "a separate",
    r"(tells?|told|telling) ([\w-]+ ){0,4}apart": "distinguish, separate",
    r"by and by|for a while": "gradually, temporarily",
    r"knows? what surrounds": "also tracks what lies outside",
    r"for the price of": "at the cost of",
    r"but for rounding": "up to rounding",
    r"place swapped": "with the halves swapped",
    r"take them where": "use those where",
    r"^of (sgd|everything)": "(say what: the momentum of SGD)",
    r"goes without": "stops after, leaves out",
    r"^whose weights": "the weights of …",
    r"decodable is not used": "decodable does not mean used",
    r"--shuffles|restores[-_]best|stops[-_]after|synchronises[-_]norms|smallest[-_]learning[-_]rate": "--shuffle, "
    "--restore-best, --stop-after, --sync-batchnorm, --min-learning-rate",
}
# Spellings, also inside names.
SPELLING = {
    r"colour": "color",
    r"grey": "gray",
    r"centre(?!d?_?loss)": "center",
    r"centring": "centering",
    r"neighbour": "neighbor",
    r"behaviour": "behavior",
    r"favour": "favor",
    r"(normal|initial|optim|random|synchron|general|recogn|real|organ|equal|serial|quant|material|visual|maxim|minim"
    r"|penal|summar|categor|util|standard|emphas|regular|local)is(e|ed|er|ing|ation)": "-ize",
    r"analys(e|ed|ing)\b": "analyze",
    r"(label|model|travel|signal|cancel)l(ed|ing)": "one l",
    r"artefact": "artifact",
    r"licence": "license",
    r"learnt": "learned",
    r"whilst": "while",
    r"metres?": "meter",
    r"judgement": "judgment",
}
# Lines on which a retired word is a name or means something else.
EXCEPTIONS = (
    r"^\s*(places|answers|all_positions): ",  # arguments and attributes that records of an audit have, too
    r"needed: the inputs that they read",  # a field of that name
    r"Mind the Pad",  # the title of a paper
    r"same-answer-at-every-pixel|plot_2_same_answer_everywhere|trained-with-zeros",  # addresses of pages
    r"tokens-stand-for-a-map|[Rr]elabell(ed|ing)",  # a page, a class
    r"were `places`",  # the changelog, of names that went
    r"_OLD_(LEVELS|NAMES) = ",  # what older records have
)
WORDS = {re.compile(rf"\b(?:{word})\b"): better for word, better in DIALECT.items()}
LETTERS = {re.compile(word): better for word, better in SPELLING.items()}
OTHERS = re.compile("|".join(EXCEPTIONS), re.IGNORECASE)
# One expression for all finds the texts that need a closer look.
ANY = {id(rules): re.compile("|".join(rule.pattern for rule in rules)) for rules in (WORDS, LETTERS)}
# Of these words, names of fields, arguments, options and keys of records are not made.
NAMES = re.compile(
    r"(^|_)(answer(s|ed|ing)?|places|(worst|best|any|each|every|other|same|first)_place|emptiness|endless|dear|spots?"
    r"|stands|stood|felt|honest|minds?)(_|$)"
)
QUESTION = re.compile(r"(What|Whether|How|Of|Where|Which|Whose|Why)\b")


def documents() -> list[Path]:
    """README, documentation, records of results, examples and templates."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for folder, pattern in (
        ("docs", "*.md"),
        ("results", "*.md"),
        ("examples", "*.py"),
        ("examples", "*.rst"),
        ("src", "*.j2"),
        ("src", "*.js"),
    ):
        found += sorted((ROOT / folder).rglob(pattern))
    return [path for path in found if ROOT / "docs" / "reference" / "results" not in path.parents]  # a copy


def sources() -> list[Path]:
    """Modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def findings(text: str, line: int, rules: dict[re.Pattern[str], str]) -> Iterator[tuple[int, str]]:
    """The retired words of a text that begins at `line`."""
    # Sentences run over line ends.
    flat = re.sub(r"\s", " ", text).lower()
    if not ANY[id(rules)].search(flat):
        return
    starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
    for rule, better in rules.items():
        for match in rule.finditer(flat):
            row = sum(start <= match.start() for start in starts) - 1
            end = starts[row + 1] if row + 1 < len(starts) else len(text)
            if not OTHERS.search(text[starts[row] : end]):
                yield line + row, f"{' '.join(text[match.start() : match.end()].split())} → {better}"


def prose(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text in a module that a user may see: docstrings (of attributes too), messages, options, titles.

    A text that is a single lower-case word is a key or a name, which is not read as a sentence.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\s|^[A-Z]", node.value):
            yield node.lineno, node.value


def openings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings that begin with a question instead of what a thing does or is.

    A property may be "Whether …", and the title of an experiment, which opens its module, may be a question.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            is_title = isinstance(node, ast.Module) and text.partition("\n")[0].endswith("?")
            opening = None if is_title else QUESTION.match(text)
            is_property = any("property" in ast.unparse(d) for d in getattr(node, "decorator_list", ()))
            if opening and not (is_property and opening.group() == "Whether"):
                yield getattr(node, "lineno", 1), f"a docstring opens with {opening.group()} → a verb"


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names that a user meets: of functions, arguments, fields, and what results and records call their entries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        if isinstance(node, ast.ClassDef):
            fields = [entry.target for entry in node.body if isinstance(entry, ast.AnnAssign)]
            yield from ((field.lineno, field.id) for field in fields if isinstance(field, ast.Name))
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.lineno, key.value


def retired(path: Path) -> list[str]:
    """The findings in a file, as lines."""
    text = path.read_text(encoding="utf-8")
    found = set(findings(text, 1, LETTERS))
    if path.suffix == ".py" and PACKAGE in path.parents:
        tree = ast.parse(text)
        for line, part in prose(tree):
            found |= set(findings(part, line, WORDS))
        found |= set(openings(tree))
        lines = text.splitlines()
        found |= {
            (line, f"{name} → another name")
            for line, name in names(tree)
            if NAMES.search(name) and not OTHERS.search(lines[line - 1])
        }
    else:
        found |= set(findings(text, 1, WORDS))
    return [f"{path.relative_to(ROOT)}:{line}: {words}" for line, words in sorted(found)]


def test_no_retired_word_is_left() -> None:
    assert [line for path in (*documents(), *sources()) for line in retired(path)] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a network under its own\npadding", "own padding"),
        ("3 images; needed: 6", "needed"),
        ("10 images a class", "images a class"),
        ("every place of the canvas", "every place"),
        ("where it stands", "stands"),
        ("equal, but for\nrounding", "but for rounding"),
        ("Of SGD.", "Of SGD"),
        ("Whose weights to load.", "Whose weights"),
    ],
)
def test_a_retired_word_is_found(text: str, word: str) -> None:
    (finding,) = findings(text, 7, WORDS)
    assert finding[0] == 7
    assert finding[1].startswith(word)


def test_a_retired_name_is_found() -> None:
    code = "class Effect:\n    places: int = 0\n    flips = 1\ndef of(answers): return {'worst_place': answers}\n"
    found = [name for _, name in names(ast.parse(code)) if NAMES.search(name)]
    assert found == ["places", "answers", "worst_place"]


@pytest.mark.parametrize("text", ["done in place", "zero stands for no bias", "two decimal places", "normalized"])
def test_ordinary_words_are_not(text: str) -> None:
    assert not [*findings(text, 1, WORDS), *findings(text, 1, LETTERS)]
