"""The compared servers, each written as its own authors would write it."""
