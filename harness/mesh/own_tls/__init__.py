"""Applications that encrypt their traffic themselves, in pods with and without sidecars."""
