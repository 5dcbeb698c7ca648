"""Why a candidate differs from its reference: the faulty file, key or tensor.

:mod:`edgetune.diagnose.verify` runs the four checks of :mod:`edgetune.compare`, then
:mod:`edgetune.diagnose.faults` reads the files and names the fault; :mod:`edgetune.diagnose.bisect`
finds the first failing step of a run.
"""
