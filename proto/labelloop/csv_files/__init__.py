"""Read CSV files that people fill in, as editors and spreadsheets write them."""
