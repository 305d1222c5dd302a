"""What the middleware costs, measured beside well-known references in the same run. Asserts nothing."""
