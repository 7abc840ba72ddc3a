"""Groups of commands with a module of their own; `engine.cli` joins them."""
