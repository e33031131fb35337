"""``headrace doctor``: what is wrong with a deployment. ``command`` collects facts, ``findings`` judges them
(pure)."""
