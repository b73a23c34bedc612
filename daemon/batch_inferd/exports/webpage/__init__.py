"""An export as one page for the browser: records with their images, to be looked through and filtered."""
