"""aiohttp: the alert receiver, the read-only dashboard, health and metrics."""
