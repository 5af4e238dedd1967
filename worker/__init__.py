"""The streaming worker: query events in, ranked lists and feedback out, exactly once.

Read it in the order of the data: `settings` → `broker` (records in) → `decode` → `admission` →
`candidates` → `caches` → `reranker` (all of a batch) → `rank` → `publish` (records out) → `loop`
(poll, work, commit). `build` puts the parts together; `errors` says where each error goes.
"""
