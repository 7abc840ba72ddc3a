"""Hand-written doubles, shared by tests: real implementations of our own interfaces, without the outside."""
