"""Does this CNN use location, how far from the border, how strongly, and at what price? One call, one page.

`measure` gathers numbers, `judge` turns them into sentences, `figures` and `page` show them: each apart.
"""

from borderless.auditing.judge import Finding, judge
from borderless.auditing.measure import Audit, audit

__all__ = ["Audit", "Finding", "audit", "judge"]
