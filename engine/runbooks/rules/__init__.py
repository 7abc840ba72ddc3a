"""The rules that a runbook must keep beyond its shape. `lint` runs them all; each names its id in its docstring."""
