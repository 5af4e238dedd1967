"""Turns texts into scores: what serving, export and training must do in exactly the same way.

In the order of the data: `bundles` (verified files) → `embed` and `index` (query → candidates) →
`cascade` (which of them need scoring) → `pairs`, `passages` and `tokens` (texts → token ids) →
`batches` (like lengths together) → `lanes` and `graph`
(token ids → logits); `score` is all of these in one call.
Imports only `schemas`; needs neither torch nor transformers.
"""
