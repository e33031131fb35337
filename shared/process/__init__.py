"""What every process of Headrace has around its work: log lines, metrics, the garbage collector, background tasks
that it can't do without, its limit of files, the wait for missing rights, and why a connection did not come about.
"""
