"""The command line: `borderless COMMAND`."""
