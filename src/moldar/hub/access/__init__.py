"""Who somebody is, and who may do what."""
