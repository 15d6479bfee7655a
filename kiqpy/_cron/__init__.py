"""Reads cron expressions, and computes local times across changes of the clocks."""
