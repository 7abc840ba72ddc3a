"""Real services that tests start themselves, on free ports, and stop afterwards."""
