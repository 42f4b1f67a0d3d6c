"""Turns records into text, NDJSON, HAR and pcapng. Only `tapper.output.sink` writes."""
