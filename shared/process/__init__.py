"""What every process of Headrace has around its work: log lines, metrics, the collector, background tasks that it
can't do without, its limit of files, and what it says about missing rights and connections that did not come about.
"""
