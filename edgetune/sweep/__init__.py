"""Sweeps: a study of trials, each a run of the pipeline, that share artifacts."""
