"""From a harness note to a patch that a person reviews: a rule and a regression fixture. Wiring hands it over."""
