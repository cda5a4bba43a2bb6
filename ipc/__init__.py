"""What the master and its children share: one segment of shared memory."""
