"""Charts as SVG text: scales, marks, panels and the picture that holds them. Pure, and without libraries."""
