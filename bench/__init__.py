"""How fast it is, measured side by side with the raw protocol loop."""
