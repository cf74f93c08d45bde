"""Numbers about a model. No drawing and no judging here."""
