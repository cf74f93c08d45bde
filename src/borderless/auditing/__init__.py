"""Tell whether a CNN uses absolute position, how far from the border, how strongly, and what it costs to prevent it.

`run` loops over the `parts`, each one file that measures, judges, records and draws one thing; `verdict`, `record` and
`page` put together what they give.
"""
