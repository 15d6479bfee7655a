"""Local jobs: they begin in the process that enqueues them, and Redis is their backup."""
