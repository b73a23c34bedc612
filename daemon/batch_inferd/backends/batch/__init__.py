"""The batch backend's side of a provider: its Batch API as data, the calls, the dialects of its files.

`api` is the data, `provider` the interface and its errors, `lines` reads and writes the files,
`http` makes the calls, `openai` is the adapter of the OpenAI family, `registry` picks the adapter.
"""
