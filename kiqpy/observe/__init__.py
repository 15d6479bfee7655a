"""How people see what happens: log lines, spans, metrics."""
