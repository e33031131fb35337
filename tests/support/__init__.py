"""What tests lean on: stand-ins that are real servers and processes."""
