"""Documents to texts: Markdown, HTML, PDF and Word files, and their chunks of tokens."""
