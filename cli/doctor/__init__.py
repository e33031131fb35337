"""``headrace doctor``: what a deployment lacks. ``command`` looks at it, ``findings`` says what that means
(pure)."""
