"""The experiment of docs/istio.md, replayed on one machine."""
