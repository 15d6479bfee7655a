"""A payload's bytes: JSON kept value for value, and the arguments that fit into it."""
