"""Runners: what turns an order into one command in a VM, and its result into a conclusion. A file each."""
