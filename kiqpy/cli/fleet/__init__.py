"""`kiqpy run --processes N`: a supervisor and its worker processes."""
