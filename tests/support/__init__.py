"""What several tests share: networks, an unbounded plane as oracle, writers of data sets in their real formats."""
