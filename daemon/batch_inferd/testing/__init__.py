"""The embedded test service (`domain: test`): a local OpenAI-compatible server that can misbehave.

It answers calls at once, and files of them as batches. It is a process of its own and speaks real HTTP,
so that the code that talks to it is the code that talks to a real provider.
`python -m batch_inferd.testing --state DIR` starts it by hand; `adopt.ensure_running` is how the daemon
gets one; `process.start_service` is how tests do.
"""
