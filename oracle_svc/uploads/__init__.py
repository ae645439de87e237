"""Take in files that clients upload, and provide them to readers of datasets."""
