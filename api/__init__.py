"""HTTP in, SSE out. Never imports worker."""
