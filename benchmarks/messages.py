"""What the library said about an operation that it refused or warned of, taken apart for a table."""

import re

# The texts of errors.py's PositionDependentWarning and UnsupportedOperation.
WHERE = r"(?:in|in or before) (?P<module>module '.+?' \(\w+\)|the model itself(?: \(\w+\))?)"
SAID = (
    re.compile(
        rf"\w+: Expected .+? but got (?P<operation>.+?) {WHERE} under .+?: (?P<reason>.+?)\. (?P<do>Register.+)",
        re.DOTALL,
    ),
    re.compile(rf"(?P<operation>\S+) {WHERE} reads absolute position: (?P<reason>.+?)\. From", re.DOTALL),
)
LONGEST = 300


def said(message: str) -> str:
    """Operation, module and reason, in one line; of another message, its beginning."""
    for pattern in SAID:
        if found := pattern.match(message):
            message = f"`{found['operation']}` in {found['module']}: {found['reason']}"
            break
    return _cell(message)


def what_to_do(message: str) -> str:
    """The end of an error, from where it says what to do; empty where it does not."""
    found = SAID[0].match(message)
    if found is not None:
        return _cell(found["do"])
    return _cell(message.partition("; ")[2])


def _cell(text: str) -> str:
    return text[:LONGEST].replace("|", "\\|").replace("\n", " ")
