"""What runs inside a VM, with root, to get out of it: carried in and run by tests/integration/runtime/test_escapes.py.

Standard library only. `attempt` holds what all share; the other modules hold the attempts, by what they go for.
"""
