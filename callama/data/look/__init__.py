"""Looking at data: conversations and built data sets on a terminal, as a page, and through the round-trip check."""
