"""The six questions of the manual's FAQ: the exact strings, in both languages, and exit codes."""

import pytest

from batch_inferd.testing.process import start_service
from harness import Outputs, Shell, prompts, service_config, wait_for

LANGUAGES = ("en", "zh")


@pytest.fixture(params=LANGUAGES)
def lang(request):
    return request.param


@pytest.fixture
def shell(workspace, lang):
    return Shell(workspace, BATCH_INFER_LANG=lang)


def pick(lang, en, zh):
    return {"en": en, "zh": zh}[lang]


def test_q1_few_lines_because_of_test_lines(shell, lang, service):
    shell.config(model=service_config(service), test_lines=3)
    prompts(shell.workspace / "in.jsonl", 10)
    done = shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    assert (
        pick(
            lang,
            "test_lines is 3: only the first 3 records are processed, 7 more are left out; "
            "set test_lines: 0 for the whole input",
            "test_lines 为 3：只处理前 3 条记录，其余 7 条不处理；要处理全部数据，请设 test_lines: 0",
        )
        in done.stderr
    )


def test_q2_no_task_id(shell, lang, service):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 1)
    for args in (["-pipeline", "in.jsonl"], ["-pipeline", "in.jsonl", "-task-id", ""]):
        failed = shell.run(*args, code=2)
        assert pick(lang, "error: task-id must not be empty", "task-id 参数不能为空") in failed.stderr
        assert '-task-id "' in failed.stderr


@pytest.mark.parametrize("key", ["domain", "password", "max_tokens"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_q3_a_missing_key(shell, lang, key, how):
    model = {"domain": "http://127.0.0.1:9/v1", "name": "m", "password": "p", "max_tokens": 8}
    if how == "absent":
        del model[key]
    else:
        model[key] = "" if key != "max_tokens" else None
    path = shell.workspace / "config.yaml"
    path.write_text(
        "model:\n" + "".join(f"  {k}: {'' if v in ('', None) else v}\n" for k, v in model.items())
    )
    prompts(shell.workspace / "in.jsonl", 1)
    failed = shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=2)
    assert (
        pick(lang, f"{key} must not be empty in the config file", f"配置文件中 {key} 不能为空")
        in failed.stderr
    )
    assert "config.yaml:" in failed.stderr
    assert not (shell.workspace / "chunks/A").exists()


def test_q4_the_id_is_taken(shell, lang, service):
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 1)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    failed = shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=3)
    assert pick(lang, "the file [A] already exists", "文件 [A] 已存在") in failed.stderr
    assert "chunks/A" in failed.stderr
    assert "merged/A" in failed.stderr


def test_q5_the_network_is_down(shell, lang, service, tmp_path):
    service.control(latency_ms=50)
    shell.config(model=service_config(service), execution={"concurrency": 4}, limits={"max_concurrency": 4})
    prompts(shell.workspace / "in.jsonl", 60)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["counts"]["output"] > 3, "some answers")
    port = service.port
    service.kill()
    wait_for(lambda: {"network"} & {entry["code"] for entry in shell.status("A")["waiting"]}, "the wait")
    shown = shell.run("-monitor", "A", "-once").stdout
    assert pick(lang, "the network is down: ", "网络不通：") in shown
    assert pick(lang, "waiting, and going on by itself when it returns", "正在等待，恢复后自动继续") in shown
    shell.daemon().kill()  # «if the program has ended, the same command goes on»
    with start_service(tmp_path / "service", port=port):
        shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(60)


def test_q6_a_number_in_quotes(shell, lang):
    (shell.workspace / "config.yaml").write_text(
        'model:\n  domain: "test"\n  name: test-model\n  password: "x"\n  max_tokens: 16\n\n'
        '  temperature: "0.6"\n'
    )
    prompts(shell.workspace / "in.jsonl", 1)
    failed = shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=2)
    assert (
        pick(
            lang,
            'config.yaml:7:16: temperature must be a number, found the string "0.6"; remove the quotes',
            'config.yaml:7:16: temperature 必须是数字，实际是字符串 "0.6"；请去掉引号',
        )
        in failed.stderr
    )
