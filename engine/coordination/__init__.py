"""The machine (the one writer of state), gate verdicts, escalations and approvals. Called inside a transaction."""
