"""Files: atomic replacement, a safetensors container with a checksum, nested dicts."""
