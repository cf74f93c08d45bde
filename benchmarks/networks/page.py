def page(rows, revision): return ""
