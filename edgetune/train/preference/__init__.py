"""What training on preferences has in common: batches, log probabilities, reference, figures."""
