"""What tasks cost: prices, estimates before a run, what is spent, and forecasts while it runs."""
