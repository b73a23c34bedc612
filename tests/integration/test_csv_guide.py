"""A table of 1,257 rows with images, 301 of them missing or broken, from the estimate to the merged CSV."""

import csv
import io

from harness import Outputs, service_config
from image_kit import picture

ROWS, MISSING, BROKEN = 1257, 250, 51
COLUMNS = ["编号", "question", "image_path"]


def bad(n):
    """Whether, and how, the image of row n is bad: every fourth row, until there are enough."""
    if n % 4 or n // 4 >= MISSING + BROKEN:
        return None
    return "missing" if n // 4 < MISSING else "broken"


def write_table(path):
    with path.open("w", encoding="gb18030", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for n in range(ROWS):
            table.writerow([f"R{n}", f'第{n}行, "安全" or\nnot?', f"image/{n:04}.png"])


def write_images(folder, *, mend=False):
    whole = picture(20, 20, "png")
    for n in range(ROWS):
        state = None if mend else bad(n)
        if state != "missing":
            (folder / f"{n:04}.png").write_bytes(whole[:60] if state == "broken" else whole)


def read_rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def test_the_whole_of_it(shell, service):
    folder = shell.workspace
    (folder / "image").mkdir()
    write_table(folder / "content.csv")
    write_images(folder / "image")
    shell.config(
        model=service_config(service),
        input={"prompt": "{question}", "id_column": "编号", "image_columns": ["image_path"]},
        prices={"input": 0.15, "output": 0.6},
    )
    estimate = shell.json("-estimate", "content.csv")
    assert estimate["records"] == ROWS
    known = shell.json("-estimate", "content.csv", "-model", "gpt-4o")["tokens"]
    assert (known["images"], known["image_tokens"] // ROWS) == (ROWS, 255)  # small ones: a tile each
    assert not service.ledger()

    run = (
        "-pipeline",
        "content.csv",
        "-task-id",
        "guide",
        "-batch-size",
        "100",
        "-model",
        "test-model",
        "-wait",
    )
    shell.run(*run, code=1)
    first = Outputs(folder, "guide")
    first.check_identity(ROWS)
    assert len(first.output) == ROWS - MISSING - BROKEN
    assert first.report["errors"] == {"image_missing": MISSING, "image_invalid": BROKEN}
    assert first.report["cost"]["spent"] > 0
    told = {line["custom_id"]: line["error"]["message"] for line in first.errors}
    assert all(f"{n:04}.png" in told[f"R{n}"] for n in range(ROWS) if bad(n))

    write_images(folder / "image", mend=True)
    shell.run("-retry", "guide", "-only", "failed", "-wait")
    second = Outputs(folder, "guide", round=1)
    second.check_identity(ROWS)
    assert second.report["counts"]["output"] == ROWS
    assert len(service.ledger()) == ROWS, "what was answered is not asked again"
    shell.run("-validate", "guide")

    shell.run("-export", "guide", "-out", "final_output.csv")
    rows = read_rows(folder / "final_output.csv")
    assert [row["编号"] for row in rows] == [f"R{n}" for n in range(ROWS)]
    assert rows[7]["question"] == '第7行, "安全" or\nnot?'
    assert all(row["answer"] and not row["error"] for row in rows)
