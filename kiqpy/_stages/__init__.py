"""The three stages of a queue: producer, consumer, settler; and what runs one job."""
