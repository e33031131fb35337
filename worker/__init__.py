"""Provider in, log out. Never imports api."""
