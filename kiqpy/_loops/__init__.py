"""What happens by time: promote, rescue, lead, cron, cancel, leaks, discover."""
