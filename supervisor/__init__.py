"""What keeps a pool alive: policy, master, exporter, command lines."""
