"""The way from `enqueue` to the store: admission, buffer, flush, results."""
