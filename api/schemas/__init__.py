"""What callers may send, as models that refuse everything else. No I/O: a body in, a request or its faults out."""
