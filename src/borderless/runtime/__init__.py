"""What programs need around the numbers: processes, files, devices, evaluation mode."""
