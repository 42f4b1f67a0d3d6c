"""Sources follow the targets: processes begin and end, namespaces have addresses, and some targets are not seen."""
