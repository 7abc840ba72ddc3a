"""What runs inside a VM: the initramfs' /init, the agent that is PID 1, and the script that builds the image."""
