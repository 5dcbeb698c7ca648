"""The dataset that `prepare` makes: rows and tokens of each split, in memory-mapped files."""
