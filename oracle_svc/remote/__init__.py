"""Read pools from object stores and web servers."""
