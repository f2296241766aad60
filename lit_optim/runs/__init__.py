"""What runs left behind, read and compared: which was best, and what differed. No torch, no Lightning, no Hydra.

`finding`: paths → folders of runs. `settings`: a config → flat names, and which differ. `reading`: a folder → `Run`.
`metric`: which one counts, and which way. `intervals`: samples, and the difference of two. `comparison`: runs → rows,
the best first. `telling`: these as text, CSV and JSON. `layout`: their table, however many settings differ. `events`,
`logged`, `curves`: what was recorded, wherever it went, and its mean over seeds.
"""
