"""What the environment and the tables say: settings, providers and what they can do, prices, keys, proxies.

``settings.environment`` is the one place that reads the environment, and composition roots call it. The tables
``providers.toml`` and ``prices.toml`` lie here. Of the other rooms it knows what a URL of Redis may name.
"""
