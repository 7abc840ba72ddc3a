"""AI agents in steps: the loop in a process of its own, tools held to the step, models behind a proxy of ours."""
