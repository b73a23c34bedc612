"""How input becomes chunks: pinning the input file, and cutting it lazily."""
