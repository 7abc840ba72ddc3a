"""Alerts in: one source a file, each verifies raw bytes and reads them as alerts. Known by the port `Trigger`."""
