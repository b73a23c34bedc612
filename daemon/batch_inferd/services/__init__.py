"""Services: what is known of each, how a config and an environment become requests, and credentials."""
