"""What a worker does once for all its attempts, on a clock: leases, the sweep, watchers, turns at providers.

``upkeep`` is the clock. Stands on the log; the attempts register themselves here.
"""
