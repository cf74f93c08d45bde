"""Does a CNN use location, how far from the border, how strongly, and what does it cost to prevent it? On one page.

`run` loops over the `parts`, each one file that measures, judges, records and draws one thing; `verdict`, `record` and
`page` put together what they give.
"""
