"""What client and daemon share: errors, texts, frames, the shapes of requests, workspace paths."""
