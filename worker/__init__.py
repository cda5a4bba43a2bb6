"""What runs in a slot: the loop, the handler contract, recovery."""
