"""The composition root and the public Python API: one typed function per verb, no policy.

`engine.Engine` puts the machinery of one store together, each part when it is first needed. The verbs are in
`building`, `images`, `containers`, `registries`, `systems` and `hubs`; each takes an engine first.
"""
