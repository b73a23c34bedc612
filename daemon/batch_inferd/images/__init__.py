"""Images: read where a record refers to them, checked, and put into its request as base64."""
