"""Whether a candidate model is its reference: probes, loaded models, four checks, verdict.

Tokenizer, template, stopping and weights are compared in this order, because a later check means
nothing while an earlier one fails.
"""
