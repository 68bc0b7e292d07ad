"""Typed parameters: what a driver declares, and the check of what an instance sets. Pure.

A driver declares `ParamGroup`s of `Param`s with the types below; `Schema` compiles those of the driver and its
extensions, checks a mapping, and tells every problem at once; `json_schema`, `markdown` and `rows` describe it.
"""
