"""Blind comparison of models by people: the page, the votes, and what the votes say.

``pairs`` chooses what is shown, ``page`` writes it, ``ballots`` reads what voters export, and
``results`` turns votes into win rates, scores, position bias and agreement.
"""
