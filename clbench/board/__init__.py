"""Many submissions as a static site: what was measured by whom, on what, within what budget.

A submission is a file of :mod:`clbench.submission`; its rows are methods over seeds, each with a
verdict of the checks there. Rows that share stream, starting weights, protocol and budget stand on
one board (:mod:`~clbench.board.key`), ranked by what the seeds can tell apart
(:mod:`~clbench.board.ranks`). Every number leads to the record that it was computed from.
"""
