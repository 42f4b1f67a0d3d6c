"""Programs that are measured: those that are libraries, in the few lines that their own documents show."""
