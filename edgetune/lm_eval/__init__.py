"""lm-evaluation-harness over the files that ship: its model ``edgetune``, and suites of its tasks.

lm-eval is an extra (``pip install 'edgetune[lm-eval]'``); only this package imports it.
"""
