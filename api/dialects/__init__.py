"""Dialects: how a log is spoken to a viewer. Pure: entries in, bytes out."""
