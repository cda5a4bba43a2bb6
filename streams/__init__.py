"""What Redis and we agreed on; the only folder that imports redis."""
