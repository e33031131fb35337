"""What a worker does once for all its attempts, on a clock: leases, the sweep, presence of viewers, turns at
providers.

``ticker`` is the clock. This room uses the log; the attempts register their streams here.
"""
