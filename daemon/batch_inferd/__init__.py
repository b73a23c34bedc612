"""The resident daemon of batch_infer: scheduler, workers, backends, test service."""
