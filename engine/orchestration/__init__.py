"""Who drives a run: the driver and its threads, wake-ups, recovery after a crash, timers."""
