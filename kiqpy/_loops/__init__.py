"""What happens by time: due jobs are promoted, dead processes' jobs are rescued."""
