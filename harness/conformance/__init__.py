"""The conformance kit: does a traffic tapper see a mesh's plaintext, all of it, once, and only where it was told to?

adapter (harness.adapters) -> case (groups) -> trial -> verdict -> report (harness.report)
"""
