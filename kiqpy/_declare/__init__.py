"""Options that users declare: their types, their checks, their former names."""
