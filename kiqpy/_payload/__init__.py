"""Reads and writes payloads as JSON that keeps every value, and checks arguments."""
