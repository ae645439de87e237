"""Draw charts as SVG text: scales, marks, panels, and the picture that holds them. No I/O and no libraries."""
