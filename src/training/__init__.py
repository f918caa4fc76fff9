"""Training: one run is a slot that owns its state, and a group advances slots on one device."""
