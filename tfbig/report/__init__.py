"""Reports: what was measured, as a table, JSON, Markdown, and a page to look at."""
