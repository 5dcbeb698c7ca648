"""What differs between two models, and which link of the chain is guilty.

Four things are compared in this order, because a later one means nothing while an earlier one
fails: tokenizer, template, stopping, weights. :mod:`edgetune.compare.checks` measures them in the
models' own runtimes; :mod:`edgetune.diagnose.faults` reads the files and names the fault;
:mod:`edgetune.diagnose.bisect` walks the artifacts of a run.
"""
