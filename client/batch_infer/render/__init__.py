"""How tasks look: tables, progress lines, the live view, the summary, and public JSON."""
