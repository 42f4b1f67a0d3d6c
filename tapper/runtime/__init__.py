"""What the interpreter needs: which form of the modules runs, and standard streams that may be closed."""
