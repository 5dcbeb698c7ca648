"""What differs between two models, and which link of the chain is guilty.

Four things are compared in this order, because a later one means nothing while an earlier one
fails: tokenizer, template, stopping, weights. :mod:`edgetune.verify.compare` measures them in the
models' own runtimes; :mod:`edgetune.verify.explain` reads the files and names the fault;
:mod:`edgetune.verify.chain` walks the artifacts of a run.
"""
