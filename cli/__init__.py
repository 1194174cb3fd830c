"""The `barque` command, one file a command group; what they share is in options, values, output and lookup."""
