"""What all scripts share: command line, messages, progress, workers."""
