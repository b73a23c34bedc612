"""Ways of executing records: one call a record (`online`), later a provider's Batch API (`batch`)."""
