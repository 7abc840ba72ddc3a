"""Playing through every path of a runbook on the real machine, in memory. Called by `signalbox simulate`."""
