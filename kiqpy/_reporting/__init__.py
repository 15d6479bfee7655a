"""Delivery of events: handlers, reporters, streams, hooks after the last failure."""
