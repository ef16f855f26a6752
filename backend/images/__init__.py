"""The image of a task, fetched safely: addresses, limits, decoding, cache."""
