"""What people see: Jinja2 templates, the escapes that they need, and the limits that are checked before they leave."""
