"""Configuration from the environment and from tables: settings, providers, capabilities, prices, keys, proxies.

``settings.environment`` is the one place that reads the environment; composition roots call it. The tables
``providers.toml`` and ``prices.toml`` lie here. The only other room it imports is ``shared.redis``, to check the
URLs of Redis.
"""
