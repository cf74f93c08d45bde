"""Train on digits in one corner, test everywhere."""
