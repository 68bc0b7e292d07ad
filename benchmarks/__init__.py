"""The cost of hvcore, measured in one run beside the same work without it: ``python -m benchmarks``.

Figures of two runs cannot be compared, because the load of a machine changes. So candidates are measured alternately,
A B A B, and compared by the ratio of their medians. docs/explanation/performance.md explains the figures.
"""

__all__ = ()
