"""The `barque` command, one file a command group."""
