"""What all commands share: files, configs, processes, precision and logged numbers."""
