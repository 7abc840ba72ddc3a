"""Who is asked and told: alerts in, Slack, pages. Enters the engine by `engine.service` only."""
