"""How things run, whatever they are: edges, stages, chains of stages, loops, tasks, waits."""
