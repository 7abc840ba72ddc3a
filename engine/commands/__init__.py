"""Groups of commands too large for `engine.cli`, one a file; each is registered there by a line."""
