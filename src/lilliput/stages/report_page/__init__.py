"""The page `report.html`: templates, style, script and the vendored chart library."""
