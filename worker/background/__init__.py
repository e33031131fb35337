"""What a worker does once for all its attempts, on a clock: leases, the sweep, who watches, turns at providers.

``ticker`` is the clock. Stands on the log; the attempts register themselves here.
"""
