"""The only code that knows a Redis key or command."""
