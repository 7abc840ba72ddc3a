"""What happens: the engine of Signalbox. It knows neither Slack nor the web server."""
