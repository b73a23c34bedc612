"""Every failpoint exits its process once; after the restart nothing is lost and nothing paid twice."""

import pytest

from batch_inferd.seams.failpoint import FAILPOINTS
from harness import Outputs, Shell, paid_again, prompts, service_config, wait_for

RECORDS = 60
IN_RETRY = {"retry.committed"}


@pytest.mark.parametrize("name", sorted(FAILPOINTS))
def test_exit_once(workspace, service, tmp_path, name):
    fired = tmp_path / "fired"
    fired.mkdir()
    service.control(rules=[{"contains": "q 3:", "do": "400", "times": 1}])
    hit = "@5" if name.startswith(("call.", "journal.")) else ""
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=f"{name}=exit{hit}", BATCH_INFER_FAILPOINT_DIR=str(fired))
    shell.config(model=service_config(service), execution={"concurrency": 8})
    prompts(workspace / "in.jsonl", RECORDS)

    def ended():
        # A daemon that was made to exit is started again by the next command; a lost submit is repeated.
        process = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=None, timeout=60)
        return (
            process.returncode in (0, 1, 3)
            and (workspace / "merged/A/report.json").exists()
            and state() == "completed"
        )

    def state():
        return shell.json("-status", "A", code=None).get("state")

    wait_for(ended, "the end")
    retried = shell.run("-retry", "A", "-wait", code=None)
    if retried.returncode != 0:  # the failpoint of the retry itself: the daemon goes on with it
        wait_for(lambda: state() == "completed", "the retry")
    assert (fired / f"{name}.fired").exists(), "the failpoint was never met"
    out = Outputs(workspace, "A", round=1)
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert not paid_again(out.output, service.ledger())
