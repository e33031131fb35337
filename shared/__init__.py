"""What both sides must agree on: words, keys, the log, the scripts. Imports neither api nor worker."""
