"""What both ends of a wire agree on. Imports no service."""
