"""Numbers about a model: no drawing and no judging here."""
