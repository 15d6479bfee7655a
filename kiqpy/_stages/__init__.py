"""The three stages a job passes: producer, consumer, reporter; and those who hear about it."""
