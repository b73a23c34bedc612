"""A picture of a run: how fast answers came, how long calls took, what failed, over time."""
