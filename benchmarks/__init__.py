"""What hvcore costs, measured side by side with the bare thing in one run: ``python -m benchmarks``.

Numbers of two runs say little about each other, because machines and their neighbours differ; so everything that is
compared is measured alternately, A B A B, and judged by the ratio of the medians. docs/explanation/performance.md
says what the figures mean.
"""

__all__ = ()
