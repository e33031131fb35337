"""The routes, a module for each group of paths: ``creating``, ``streams``, ``watching``, ``article``, ``health``,
and one for each dialect that has paths of its own.

A route reads a request and calls the rooms below, which do the work. Used by the composition root.
"""
