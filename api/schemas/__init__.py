"""The bodies that callers may send, as models that refuse all others. No I/O: a body in, a request or its faults
out.
"""
