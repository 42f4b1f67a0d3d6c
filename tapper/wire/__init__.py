"""What was under a pod's plaintext on the wire: TLS or nothing."""
