"""The servers that are compared, each written as its own authors would."""
