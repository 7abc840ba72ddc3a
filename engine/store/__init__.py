"""The only SQL. Models, sessions for both dialects, and queries by subject; everyone else calls these functions."""
