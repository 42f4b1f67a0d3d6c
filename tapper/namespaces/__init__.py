"""Network namespaces: entering one, its identity, its addresses, links and sockets, and the rights that this takes."""
