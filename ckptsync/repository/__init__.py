"""What lies in the bucket: the format, and the protocol that changes it."""
