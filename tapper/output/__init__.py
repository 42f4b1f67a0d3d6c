"""Records to text and to NDJSON. The formatters are pure; only `tapper.output.sink` writes."""
