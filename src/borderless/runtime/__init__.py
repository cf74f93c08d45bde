"""Processes, files, devices and evaluation mode, for commands and experiments."""
