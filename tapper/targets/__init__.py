"""Which addresses are to be tapped."""
