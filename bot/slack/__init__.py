"""Slack: buttons, commands and modals in; the outbox out. The only home of slack-bolt."""
