"""What a tapper leaves behind and sends: files, packets, changes of a network namespace."""
