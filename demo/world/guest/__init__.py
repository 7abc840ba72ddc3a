"""What runs inside a target VM: its /init, its PID 1 and the service `checkout`. Only tests import it."""
