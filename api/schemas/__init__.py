"""The bodies that callers may send, as models. No I/O: a body in, a request or its faults out."""
