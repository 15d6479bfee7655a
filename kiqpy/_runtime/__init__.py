"""A started app: its environment, engine, pipelines, loops, heartbeat, and control of them."""
