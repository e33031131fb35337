"""The parts that every process of Headrace has around its work: log lines, metrics, garbage collection, critical
background tasks, the limit of open files, the wait for missing rights of Redis, and words for failed connections.
"""
