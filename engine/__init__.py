"""Turns texts into scores: what serving, export and training must do in exactly the same way.

In the order of the data: `bundles` (verified files) → `embed` and `index` (query → candidates) →
`pairs` (texts → token ids) → `batches` (like lengths together) → `score` (token ids → logits).
Imports only `schemas`; needs neither torch nor transformers.
"""
