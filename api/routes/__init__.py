"""The routes, a module for each group of paths: ``creating``, ``streams``, ``watching``, ``article``, ``health``,
and one for each dialect that has paths of its own.

A route takes a request apart and hands it on; what is done stands in the rooms below. Used by the composition root.
"""
