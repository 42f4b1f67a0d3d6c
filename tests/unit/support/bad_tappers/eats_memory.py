"""Takes all that it gets."""

held = []
while True:
    held.append(b"x" * (8 << 20))
