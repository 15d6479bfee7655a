"""Schedules as text and as instants: crontab lines, and local times across DST."""
