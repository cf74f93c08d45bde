"""What the engine said about an operation that it refused or warned of, taken apart for a table."""

import re

# The texts of errors.py's PositionDependentWarning and UnsupportedOperation.
WHERE = r"(?:in|in or before) (?P<module>module '.+?' \(\w+\)|the model itself(?: \(\w+\))?)"
SAID = (
    re.compile(rf"\w+: got (?P<operation>.+?) {WHERE} under .+?: (?P<reason>.+?)\. Needed", re.DOTALL),
    re.compile(rf"(?P<operation>\S+) {WHERE} reads absolute position: (?P<reason>.+?)\. From", re.DOTALL),
)


def said(message: str) -> str:
    """Operation, module and reason, in one line; of another message, its beginning."""
    for pattern in SAID:
        if found := pattern.match(message):
            message = f"`{found['operation']}` in {found['module']}: {found['reason']}"
            break
    return message[:300].replace("|", "\\|").replace("\n", " ")
